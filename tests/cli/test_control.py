"""`stagecast pause`, `resume`, `stop` and `retry`, and what they print."""

from __future__ import annotations

import json

import pytest

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.cli.batch import Batch
from tests.cli.command import stagecast


async def run(server: App, verb: str, *arguments: str) -> str:
    ended = await stagecast(verb, *arguments, "--grpc", server.grpc_address)
    assert (ended.code, ended.err) == (0, "")
    [line] = ended.out.splitlines()
    return line


async def state_of(client: Stubs, batch: Batch) -> r.BatchState.ValueType:
    request = s.GetBatchRequest(dataset_id=batch.name[0], batch_id=batch.name[1])
    return (await client.status.GetBatch(request)).batch.state


@pytest.mark.slow
async def test_each_command_prints_the_new_state_of_the_batch(
    server: App, client: Stubs, batch: Batch
) -> None:
    for verb, printed, state in [
        ("pause", "2 documents paused; batch batch-1 is paused: 2 paused", r.BATCH_STATE_PAUSED),
        (
            "resume",
            "2 documents resumed; batch batch-1 is pending: 2 pending",
            r.BATCH_STATE_PENDING,
        ),
        (
            "stop",
            "2 documents stopped; batch batch-1 is stopped: 2 stopped",
            r.BATCH_STATE_STOPPED,
        ),
        (
            "retry",
            "2 documents retried; batch batch-1 is pending: 2 pending",
            r.BATCH_STATE_PENDING,
        ),
    ]:
        assert await run(server, verb, *batch.name) == printed
        assert await state_of(client, batch) == state


async def test_one_document_can_be_controlled(server: App, batch: Batch) -> None:
    printed = await run(server, "stop", *batch.name, "a")
    assert printed == "1 document stopped; batch batch-1 is running: 1 pending, 1 stopped"
    printed = await run(server, "retry", *batch.name, "a")
    assert printed == "1 document retried; batch batch-1 is pending: 2 pending"


@pytest.mark.parametrize("verb", ["pause", "resume", "stop", "retry"])
async def test_command_without_effect_says_so(server: App, batch: Batch, verb: str) -> None:
    await batch.succeed("a", "b")
    printed = await run(server, verb, *batch.name)
    assert printed == f"nothing to {verb}; batch batch-1 is succeeded: 2 succeeded"


async def test_unsealed_batch_says_that_documents_may_follow(
    server: App, client: Stubs, dataset_id: str
) -> None:
    batch = Batch(client, dataset_id)
    await batch.create("a", sealed=False)
    printed = await run(server, "pause", *batch.name)
    assert printed.endswith("is paused: 1 paused; more documents may follow")


async def test_json_prints_the_response(server: App, batch: Batch) -> None:
    answer = json.loads(await run(server, "pause", *batch.name, "a", "--json"))
    assert answer["changed_documents"] == "1"
    assert answer["batch"]["counts"] == {"total": "2", "pending": "1", "paused": "1"}


async def test_empty_document_id_is_refused(server: App, client: Stubs, batch: Batch) -> None:
    """It comes from an unset shell variable, and must not mean the whole batch."""
    ended = await stagecast("stop", *batch.name, "", "--grpc", server.grpc_address)
    assert (ended.code, ended.out) == (2, "")
    assert "must not be empty" in ended.err
    assert await state_of(client, batch) == r.BATCH_STATE_PENDING


async def test_unknown_document_is_reported(server: App, batch: Batch) -> None:
    ended = await stagecast("stop", *batch.name, "x", "--grpc", server.grpc_address)
    assert (ended.code, ended.out) == (2, "")
    [line] = ended.err.splitlines()
    assert line.endswith("(DOCUMENT_NOT_FOUND)")
