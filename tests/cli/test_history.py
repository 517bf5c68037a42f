"""`stagecast history`: each transition once, oldest first, however many there are."""

from __future__ import annotations

import asyncio
import shlex
from itertools import pairwise

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import Parse
from rich.cells import cell_len

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from tests.cli.batch import Batch
from tests.cli.command import command, on_terminal, stagecast
from tests.process import environment
from tests.rpc.calls import BATCH, Calls, execute, stage, step


async def reported(server: App, *arguments: str) -> list[str]:
    ended = await stagecast("history", *arguments, "--grpc", server.grpc_address)
    assert (ended.code, ended.err) == (0, "")
    return ended.out.splitlines()


async def start(client: Stubs, batch: Batch, document: str, worker: str) -> None:
    await client.reports.StartAttempt(
        pb.StartAttemptRequest(
            dataset_id=batch.name[0], batch_id=batch.name[1], document_id=document, worker=worker
        )
    )


async def test_pipe_gets_one_line_per_transition(server: App, client: Stubs, batch: Batch) -> None:
    await start(client, batch, "a", "worker-1")
    await batch.report(pb.DocumentReport(document_id="a", stage=r.STAGE_PARSING))
    await batch.report(step("a", "pages", 2, 7))
    await batch.fail("a")
    error = r"PARSE_ERROR: Page 3\nis no text."
    rows = [line.split("\t") for line in await reported(server, *batch.name)]
    a, at_work = ("a", "running", "parsing"), ("1", "worker-1")
    assert [[row[0], *row[2:]] for row in rows] == [
        ["1", "created", *[""] * 9],
        ["2", "registered", "a", "", "", "pending", "waiting", "1", "", "", ""],
        ["3", "registered", "b", "", "", "pending", "waiting", "1", "", "", ""],
        ["4", "sealed", *[""] * 9],
        ["5", "started", "a", "pending", "waiting", "running", "waiting", *at_work, "", ""],
        ["6", "stage_entered", "a", "running", "waiting", "running", "parsing", *at_work, "", ""],
        ["7", "failed", *a, "failed", "parsing", *at_work, error, "pages 2/7"],
    ]


async def test_history_of_one_document_has_only_its_transitions(server: App, batch: Batch) -> None:
    await batch.succeed("a", "b")
    rows = [line.split("\t") for line in await reported(server, *batch.name, "b")]
    assert [(row[0], row[2], row[3]) for row in rows] == [
        ("3", "registered", "b"),
        ("6", "succeeded", "b"),
    ]


async def test_json_has_one_line_per_transition(server: App, batch: Batch) -> None:
    await batch.succeed("a")
    actual = [Parse(line, r.Transition()) for line in await reported(server, *batch.name, "--json")]
    assert [transition.revision for transition in actual] == [1, 2, 3, 4, 5]
    assert actual[-1].document.state == r.DOCUMENT_STATE_SUCCEEDED


async def test_long_history_is_complete_and_in_order(
    server: App, client: Stubs, dataset_id: str
) -> None:
    batch = Batch(client, dataset_id)
    await batch.create(*(f"d{n}" for n in range(3_000)))
    revisions = [int(line.split("\t")[0]) for line in await reported(server, *batch.name)]
    assert revisions == list(range(1, 3_003))


@pytest.mark.slow
async def test_reader_that_stops_early_causes_no_error(
    server: App, client: Stubs, dataset_id: str
) -> None:
    batch = Batch(client, dataset_id)
    await batch.create(*(f"d{n}" for n in range(5_000)))
    requested = shlex.join(command("history", *batch.name, "--grpc", server.grpc_address))
    for option in ("", " --json"):
        process = await asyncio.create_subprocess_shell(
            f"{requested}{option} | head -n 1",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        out, err = await process.communicate()
        assert (out.count(b"\n"), err) == (1, b"")


async def test_terminal_gets_a_table(server: App, client: Stubs, dataset_id: str) -> None:
    batch = Batch(client, dataset_id)
    path = f"https://files.example.org/{'reports/' * 20}q1/final.pdf"
    await batch.create(path, "長い名前" * 50)
    await start(client, batch, path, "worker-1")
    await batch.report(step(path, "pages", 2, 7))
    await batch.fail(path)
    await start(client, batch, path, "worker-2")
    requested = ("history", *batch.name, "--grpc", server.grpc_address)
    async with on_terminal(*requested) as terminal:
        assert await terminal.end() == 0
    head, *rows = terminal.lines()
    assert all(cell_len(line) <= 80 for line in rows)
    assert head.split() == ["rev", "time", "kind", "document", "change"]
    # Changes are wrapped, and never cut.
    first = [number for number, row in enumerate(rows) if row[:5].strip()]
    assert [rows[number].split()[0] for number in first] == ["1", "2", "3", "4", "5", "6", "7"]
    shown = [" ".join(rows[one:other]) for one, other in pairwise([*first, len(rows)])]
    for row, words in zip(
        shown[4:],
        (
            "q1/final.pdf  pending → running, worker-1",
            "q1/final.pdf  running → failed, PARSE_ERROR: Page 3 is no text., pages 2/7, worker-1",
            "q1/final.pdf  failed → running, attempt 2, worker-2",
        ),
        strict=True,
    ):
        assert " ".join(words.split()) in " ".join(row.split())
        assert path in row.replace(" ", "")


@pytest.mark.parametrize("columns", ["40", "60", "120"])
async def test_terminal_of_any_width_shows_whole_ids(
    server: App, client: Stubs, dataset_id: str, columns: str
) -> None:
    batch, long = Batch(client, dataset_id), "7c9e6679-7425-40de-944b-e07fc1f90ae7/final.pdf"
    await batch.create("b", long)
    await batch.fail(long)
    requested = ("history", *batch.name, "--grpc", server.grpc_address)
    async with on_terminal(*requested, COLUMNS=columns) as terminal:
        assert await terminal.end() == 0
    lines = terminal.lines()
    assert all(cell_len(line) <= int(columns) for line in lines)
    assert "".join(lines).replace(" ", "").count(long) == 2
    assert any("b" in line.split() for line in lines)
    if columns != "40":
        assert sum(line.strip() == long for line in lines) == 2


async def test_terminal_shows_the_head_if_no_transitions_are_retained(
    server: App, config: Config, batch: Batch
) -> None:
    execute(config.db, "DELETE FROM transitions WHERE revision = 2")
    requested = ("history", *batch.name, "a", "--grpc", server.grpc_address)
    async with on_terminal(*requested) as terminal:
        assert await terminal.end() == 0
    assert [line.split() for line in terminal.lines()] == [
        ["rev", "time", "kind", "document", "change"]
    ]


@pytest.mark.slow
async def test_stalled_document_is_shown_as_stalled_before_and_after(
    server: App, client: Stubs, dataset_id: str
) -> None:
    calls = Calls(client, dataset_id)
    await calls.create("a", "b", stall_after=Duration(seconds=1))
    await calls.start("a")
    await _wait_for_transitions(calls, 3)
    await calls.orders("a")
    await _wait_for_transitions(calls, 5)
    await calls.report(stage("a", r.STAGE_PARSING), stage("a", r.STAGE_COMPLETED))
    name = (dataset_id, BATCH, "a")
    rows = [line.split("\t") for line in await reported(server, *name)]
    assert [(row[2], row[4], row[6]) for row in rows] == [
        ("registered", "", "pending"),
        ("started", "pending", "running"),
        ("stalled", "running", "stalled"),
        ("recovered", "stalled", "running"),
        ("stalled", "running", "stalled"),
        ("stage_entered", "stalled", "running"),
        ("succeeded", "running", "succeeded"),
    ]
    async with on_terminal("history", *name, "--grpc", server.grpc_address) as terminal:
        assert await terminal.end() == 0
    [recovered] = [line for line in terminal.lines() if "recovered" in line]
    assert "stalled → running" in recovered


async def _wait_for_transitions(calls: Calls, number: int) -> None:
    async with asyncio.timeout(60):
        while len(await calls.history("a")) < number:
            pass


async def test_history_reports_an_unknown_document(server: App, batch: Batch) -> None:
    ended = await stagecast("history", *batch.name, "x", "--grpc", server.grpc_address)
    assert (ended.code, ended.out) == (2, "")
    [line] = ended.err.splitlines()
    assert line.startswith("Error: no document 'x' in batch 'batch-1'")
    assert line.endswith("(DOCUMENT_NOT_FOUND)")
