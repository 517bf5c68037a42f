"""GetDataset, GetBatch, GetDocument, and errors for unknown ids."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc import aio

from stagecast.app import App
from stagecast.v1 import (
    control_service_pb2,
    report_service_pb2,
    status_service_pb2,
)
from stagecast.v1 import resources_pb2 as r
from tests.clock import Clock
from tests.grpc_calls import unary_stream, unary_unary
from tests.rpc.calls import BATCH, Calls, counters, failure, moment, refused, stage


async def test_dataset_aggregates_all_its_batches(calls: Calls, clock: Clock) -> None:
    await calls.create("a", "b", batch_id="first")
    await calls.create("c", batch_id="second", more_documents_follow=True)
    assert (await calls.dataset()).state == r.DATASET_STATE_PENDING
    clock.advance(8)
    await calls.report(stage("a", r.STAGE_COMPLETED), failure("b"), batch_id="first")
    assert await calls.dataset() == r.Dataset(
        dataset_id=calls.dataset_id,
        state=r.DATASET_STATE_PENDING,
        batches=2,
        open_batches=1,
        counts=r.DocumentCounts(total=3, pending=1, succeeded=1, failed=1),
        update_time=moment(clock.now_us),
    )
    await calls.report(stage("c", r.STAGE_PARSING), batch_id="second")
    assert (await calls.dataset()).state == r.DATASET_STATE_RUNNING
    await calls.report(stage("c", r.STAGE_COMPLETED), batch_id="second")
    await calls.seal(batch_id="second")
    dataset = await calls.dataset()
    assert dataset.state == r.DATASET_STATE_SUCCEEDED, "the batch that ended last decides"
    assert dataset.open_batches == 0


async def test_batch_aggregates_all_its_documents(calls: Calls) -> None:
    await calls.create("a", "b", "c", "d")
    await calls.start("a")
    await calls.report(
        stage("b", r.STAGE_COMPLETED), failure("c"), counters("a", 2, 5), counters("d", 0, 1)
    )
    batch = await calls.batch()
    assert batch.state == r.BATCH_STATE_RUNNING
    assert batch.counts == r.DocumentCounts(total=4, pending=1, running=1, succeeded=1, failed=1)
    assert batch.progress.completed_segments == 2
    assert batch.revision == 9
    await calls.report(failure("a"), failure("d"))
    ended = await calls.batch()
    assert ended.state == r.BATCH_STATE_PARTIALLY_SUCCEEDED
    assert ended.HasField("end_time")


async def test_batch_total_is_known_once_all_document_totals_are(calls: Calls) -> None:
    await calls.create("a", "b")
    await calls.report(counters("a", 2, 5))
    assert not (await calls.batch()).progress.HasField("total_segments")
    await calls.report(counters("b", 0, 0))
    assert (await calls.batch()).progress == r.Progress(completed_segments=2, total_segments=5)
    assert (await calls.document("b")).progress.HasField("total_segments"), "0 is not unknown"


async def test_read_after_an_answered_write_sees_it(calls: Calls) -> None:
    """On any reading thread."""
    await calls.create("a")
    for number in range(1, 50):
        await calls.report(counters("a", number))
        assert (await calls.document("a")).progress.completed_segments == number


ABSENT: dict[str, tuple[Callable[[Calls], Awaitable[Any]], str, set[str]]] = {
    "dataset": (
        lambda calls: Calls(calls.client, str(uuid.uuid4())).dataset(),
        "DATASET_NOT_FOUND",
        {"dataset_id"},
    ),
    "batch": (
        lambda calls: calls.batch(batch_id="nope"),
        "BATCH_NOT_FOUND",
        {"dataset_id", "batch_id"},
    ),
    "batch_of_unknown_dataset": (
        lambda calls: Calls(calls.client, str(uuid.uuid4())).batch(),
        "BATCH_NOT_FOUND",
        {"dataset_id", "batch_id"},
    ),
    "batch_in_other_case": (
        lambda calls: calls.batch(batch_id=BATCH.upper()),
        "BATCH_NOT_FOUND",
        {"dataset_id", "batch_id"},
    ),
    "document": (
        lambda calls: calls.document("nope"),
        "DOCUMENT_NOT_FOUND",
        {"dataset_id", "batch_id", "document_id"},
    ),
    "document_of_unknown_batch": (
        lambda calls: calls.document("a", batch_id="nope"),
        "BATCH_NOT_FOUND",
        {"dataset_id", "batch_id"},
    ),
    "document_with_trailing_blank": (
        lambda calls: calls.document("a "),
        "DOCUMENT_NOT_FOUND",
        {"dataset_id", "batch_id", "document_id"},
    ),
    "list": (
        lambda calls: calls.page(batch_id="nope"),
        "BATCH_NOT_FOUND",
        {"dataset_id", "batch_id"},
    ),
    "watch": (
        lambda calls: calls.watch(batch_id="nope"),
        "BATCH_NOT_FOUND",
        {"dataset_id", "batch_id"},
    ),
    "add": (
        lambda calls: calls.add("a", batch_id="nope"),
        "BATCH_NOT_FOUND",
        {"dataset_id", "batch_id"},
    ),
    "seal": (
        lambda calls: calls.seal(batch_id="nope"),
        "BATCH_NOT_FOUND",
        {"dataset_id", "batch_id"},
    ),
    "report": (
        lambda calls: calls.report(failure("a"), batch_id="nope"),
        "BATCH_NOT_FOUND",
        {"dataset_id", "batch_id"},
    ),
}


@pytest.mark.parametrize(("call", "reason", "ids"), ABSENT.values(), ids=ABSENT.keys())
async def test_not_found_error_names_the_ids(
    calls: Calls, call: Callable[[Calls], Awaitable[Any]], reason: str, ids: set[str]
) -> None:
    await calls.create("a")
    refusal = await refused(call(calls))
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert refusal.reason == reason
    assert refusal.metadata.keys() == ids
    assert all(repr(value) in refusal.message for value in refusal.metadata.values())


async def test_uuid_in_upper_case_is_the_same_dataset(calls: Calls) -> None:
    upper = Calls(calls.client, calls.dataset_id.upper())
    created = await upper.create("a")
    assert created.batch.dataset_id == calls.dataset_id
    assert (await calls.create("a")) == created, "it is the same batch"
    assert (await upper.dataset()).dataset_id == calls.dataset_id
    assert (await upper.batch()).dataset_id == calls.dataset_id
    assert (await upper.document("a")).dataset_id == calls.dataset_id
    assert (await upper.start("a")).document.dataset_id == calls.dataset_id
    page = await upper.page()
    assert page.documents[0].dataset_id == calls.dataset_id
    await upper.report(stage("a", r.STAGE_COMPLETED))
    messages = await calls.watch(resume_token=page.resume_token)
    assert messages[-1].batch.dataset_id == calls.dataset_id
    refusal = await refused(upper.batch(batch_id="nope"))
    assert refusal.metadata["dataset_id"] == calls.dataset_id


async def test_every_rpc_is_implemented(server: App) -> None:
    async with aio.insecure_channel(server.grpc_address) as channel:
        for module in (report_service_pb2, status_service_pb2, control_service_pb2):
            for service in module.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    assert not await _is_unimplemented(channel, method), method.name


async def _is_unimplemented(channel: aio.Channel, method: Any) -> bool:
    """Return whether an RPC answers an invalid request with UNIMPLEMENTED."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    request = b"\xff"  # not a complete message
    try:
        if method.server_streaming:
            await unary_stream(channel, path)(request).read()
        else:
            await unary_unary(channel, path)(request)
    except aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNIMPLEMENTED
    raise AssertionError(f"{path} answered nonsense")
