"""An id that one command prints can be passed to another."""

from __future__ import annotations

import pytest

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from tests.cli.batch import Batch
from tests.cli.command import on_terminal, stagecast

# Each differs from another one in a detail that is easily lost.
IDS = [
    "two spaces.txt",
    "two  spaces.txt",
    " two spaces.txt",
    "two spaces.txt ",
    "two\u3000spaces.txt",
    "two\xa0spaces.txt",
    r"C:\new",
    r"C:\\new",
    "it's",
    '"it"',
    "caf\u00e9",
    "cafe\u0301",
]


@pytest.fixture
async def batch(client: Stubs, dataset_id: str) -> Batch:
    batch = Batch(client, dataset_id)
    await batch.create(*IDS)
    return batch


async def fields_of(server: App, *arguments: str) -> list[list[str]]:
    ended = await stagecast(*arguments, "--grpc", server.grpc_address)
    assert ended.err == ""
    return [line.split("\t") for line in ended.out.removesuffix("\n").split("\n")]


@pytest.mark.slow
async def test_every_command_prints_ids_unchanged(server: App, batch: Batch) -> None:
    await batch.succeed(*IDS)
    for name, column, first, last in [
        ("status", 0, 1, None),
        ("history", 3, 1, 1 + len(IDS)),
        ("watch", 4, 1, -1),
    ]:
        rows = await fields_of(server, name, *batch.name)
        assert [row[column] for row in rows[first:last]] == IDS, name


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 4, 6, 11])
async def test_printed_id_can_be_passed_to_stop(
    server: App, client: Stubs, batch: Batch, number: int
) -> None:
    listed = [row[0] for row in (await fields_of(server, "status", *batch.name))[1:]]
    assert (await fields_of(server, "stop", *batch.name, listed[number]))[0][0].startswith("1 ")
    states = [row[1] for row in (await fields_of(server, "status", *batch.name))[1:]]
    assert [n for n, state in enumerate(states) if state == "stopped"] == [number]


async def test_terminal_shows_ids_unchanged(server: App, batch: Batch) -> None:
    async with on_terminal("status", *batch.name, "--grpc", server.grpc_address) as terminal:
        assert await terminal.end() == 0
    shown = terminal.lines()
    for name in IDS:
        assert any(line.startswith(f"{name} ") for line in shown), name


async def test_different_errors_are_printed_differently(server: App, batch: Batch) -> None:
    messages = ["one\ttwo", r"one\ttwo", "one two", "one  two"]
    for name, message in zip(IDS, messages, strict=False):
        error = r.DocumentError(reason="BAD", message=message)
        await batch.report(pb.DocumentReport(document_id=name, error=error))
    rows = (await fields_of(server, "status", *batch.name))[1 : 1 + len(messages)]
    assert [row[7] for row in rows] == [
        r"BAD: one\ttwo",
        r"BAD: one\\ttwo",
        "BAD: one two",
        "BAD: one  two",
    ]


async def test_worker_is_printed_unchanged(server: App, client: Stubs, batch: Batch) -> None:
    await client.reports.StartAttempt(
        pb.StartAttemptRequest(
            dataset_id=batch.name[0], batch_id=batch.name[1], document_id=IDS[0], worker=" w  1 "
        )
    )
    [*_, started] = await fields_of(server, "history", *batch.name)
    assert started[9] == " w  1 "


@pytest.mark.slow
async def test_server_message_names_ids_unchanged(server: App, batch: Batch) -> None:
    for name in (r"C:\other", "no  such\u3000file", "isn't"):
        ended = await stagecast("stop", *batch.name, name, "--grpc", server.grpc_address)
        assert ended.err.startswith(f"Error: no document '{name}' in batch ")


@pytest.mark.slow
async def test_table_shows_ids_of_documents_with_the_same_name(
    server: App, client: Stubs, dataset_id: str
) -> None:
    documents = [
        pb.NewDocument(document_id="a.txt", display_name="report"),
        pb.NewDocument(document_id="b.txt", display_name="report"),
    ]
    await client.reports.CreateBatch(
        pb.CreateBatchRequest(dataset_id=dataset_id, batch_id="b", documents=documents)
    )
    for name in ("status", "history"):
        arguments = (name, dataset_id, "b", "--grpc", server.grpc_address)
        async with on_terminal(*arguments, COLUMNS="120") as terminal:
            assert await terminal.end() == 0
        shown = terminal.lines()
        for document in documents:
            assert any(f"{document.document_id}  report " in line for line in shown), name
