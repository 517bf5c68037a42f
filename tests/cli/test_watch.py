"""`stagecast watch`: JSON, pipes, terminals, and its end."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner
from google.protobuf.json_format import Parse

from stagecast.app import App
from stagecast.cli import main
from stagecast.client import Stubs
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.cli.batch import Batch
from tests.cli.command import Running, on_terminal, stagecast, started
from tests.process import ServerProcess, free_address
from tests.rpc.calls import step
from tests.validator import WatchRecord

LOST = "connection to the server lost; reconnecting\n"


async def read(watch: Running, record: WatchRecord) -> None:
    record.receive(Parse(await watch.line(), s.WatchBatchResponse()))


async def test_json_of_an_ended_batch_is_its_snapshot(server: App, batch: Batch) -> None:
    await batch.succeed("a", "b")
    ended = await stagecast("watch", *batch.name, "--grpc", server.grpc_address, "--json")
    assert (ended.code, ended.err) == (0, "")
    [line] = ended.out.splitlines()
    reported = json.loads(line)
    assert reported["snapshot"]["complete"] is True
    assert [d["document_id"] for d in reported["snapshot"]["documents"]] == ["a", "b"]
    assert reported["batch"]["state"] == "BATCH_STATE_SUCCEEDED"
    assert reported["resume_token"]


async def test_json_prints_each_message_at_once(server: App, batch: Batch) -> None:
    record = WatchRecord()
    watching = started("watch", *batch.name, "--json", STAGECAST_GRPC=server.grpc_address)
    async with watching as watch:
        await read(watch, record)
        assert record.documents["a"].state == r.DOCUMENT_STATE_PENDING
        await batch.report(pb.DocumentReport(document_id="a", stage=r.STAGE_PARSING))
        await read(watch, record)
        assert record.documents["a"].stage == r.STAGE_PARSING
        await batch.succeed("a")
        await batch.fail("b")
        for line in await watch.lines():
            record.receive(Parse(line, s.WatchBatchResponse()))
        ended = await watch.end()
    assert record.batch is not None
    assert record.batch.state == r.BATCH_STATE_PARTIALLY_SUCCEEDED
    assert (ended.code, ended.err) == (1, "")


@pytest.mark.slow
async def test_json_resumes_without_gap_after_a_server_kill(
    dataset_id: str, tmp_path: Path
) -> None:
    address, db, record = free_address(), tmp_path / "stagecast.db", WatchRecord()
    server = await ServerProcess.start(db, grpc=address)
    try:
        async with Stubs(address) as client:
            batch = Batch(client, dataset_id)
            await batch.create("a", "b")
            async with started("watch", *batch.name, "--grpc", address, "--json") as watch:
                await read(watch, record)
                await batch.succeed("a")
                await read(watch, record)
                await server.kill()
                assert await watch.error_line() == LOST
                server = await ServerProcess.start(db, grpc=address)
                async with Stubs(address) as other:
                    await Batch(other, dataset_id).succeed("b")
                for line in await watch.lines():
                    record.receive(Parse(line, s.WatchBatchResponse()))
                ended = await watch.end()
    finally:
        if server.process.returncode is None:
            await server.kill()
    assert (ended.code, ended.err) == (0, "")
    assert record.snapshots == 1
    assert sorted(record.transitions) == [5, 6]


async def test_follow_continues_after_the_end(server: App, batch: Batch, client: Stubs) -> None:
    await batch.succeed("a", "b")
    record = WatchRecord()
    options = ("--grpc", server.grpc_address, "--json", "--follow")
    async with started("watch", *batch.name, *options) as watch:
        await read(watch, record)
        await client.reports.StartAttempt(
            pb.StartAttemptRequest(
                dataset_id=batch.name[0], batch_id=batch.name[1], document_id="a", worker="w"
            )
        )
        await read(watch, record)
        assert record.documents["a"].attempt == 2
        watch.process.send_signal(signal.SIGINT)
        ended = await watch.end()
    assert (ended.code, ended.err) == (130, "")


async def test_pipe_gets_plain_lines(server: App, batch: Batch) -> None:
    async with started("watch", *batch.name, "--grpc", server.grpc_address) as watch:
        assert await watch.line() == "snapshot (initial) at revision 4\n"
        assert (await watch.line()).split() == ["2", "pending", "waiting", "a"]
        assert (await watch.line()).split() == ["3", "pending", "waiting", "b"]
        await batch.succeed("a")
        assert (await watch.line()).split() == ["5", "succeeded", "succeeded", "completed", "a"]
        await batch.report(step("b", "pages", 2))
        await batch.fail("b")
        lines = await watch.lines()
        ended = await watch.end()
    error = r"PARSE_ERROR: Page 3\nis no text."
    assert lines[0] == f"6\tfailed\tfailed\twaiting\tb\t{error}\tpages 2\n"
    assert lines[1] == "batch batch-1 partially_succeeded: 1 succeeded, 1 failed\n"
    assert (ended.code, ended.err) == (1, "")


async def test_terminal_gets_a_live_table(server: App, batch: Batch) -> None:
    async with on_terminal("watch", *batch.name, "--grpc", server.grpc_address) as terminal:
        await terminal.wait_for("2 pending")
        await batch.report(step("b", "pages", 2, 7))
        await terminal.wait_for("pages 2/7")
        await batch.succeed("a")
        await terminal.wait_for("1 pending, 1 succeeded")
        await batch.fail("b")
        assert await terminal.end() == 1
    assert "b: PARSE_ERROR: Page 3 is no text." in terminal.shown
    assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l"), "no cursor"


async def test_interrupt_ends_a_live_table_quietly(server: App, batch: Batch) -> None:
    async with on_terminal("watch", *batch.name, "--grpc", server.grpc_address) as terminal:
        await terminal.wait_for("2 pending")
        terminal.process.send_signal(signal.SIGINT)
        assert await terminal.end() == 130
    assert "Traceback" not in terminal.shown
    assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l"), "no cursor"


async def test_watch_reports_an_unreachable_server(dataset_id: str) -> None:
    address = free_address()
    ended = await stagecast("watch", dataset_id, "x", "--grpc", address)
    assert (ended.code, ended.out) == (2, "")
    why = "connection refused; is a server running there?"
    assert ended.err == f"Error: cannot reach {address}: {why}\n"


async def test_watch_reports_the_http_port_as_grpc_address(server: App, dataset_id: str) -> None:
    ended = await stagecast("watch", dataset_id, "x", "--grpc", server.http_address)
    assert (ended.code, ended.out) == (2, "")
    assert "does not speak gRPC; is it the server's HTTP port?" in ended.err


async def test_watch_reports_an_unknown_host(dataset_id: str) -> None:
    ended = await stagecast("watch", dataset_id, "x", "--grpc", "nowhere.invalid:1")
    assert ended.err == "Error: cannot reach nowhere.invalid:1: there is no such host\n"


async def test_watch_reports_an_unknown_batch(server: App, dataset_id: str) -> None:
    ended = await stagecast("watch", dataset_id, "x", "--grpc", server.grpc_address, "--json")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"Error: no batch 'x' in dataset '{dataset_id}' (BATCH_NOT_FOUND)\n"


async def test_watch_reports_an_invalid_id(server: App, batch: Batch) -> None:
    ended = await stagecast("watch", batch.name[0], "no spaces", "--grpc", server.grpc_address)
    assert (ended.code, ended.out) == (2, "")
    [line] = ended.err.splitlines()
    assert line.startswith("Error: batch_id: must be ")
    assert line.endswith("(FIELD_INVALID)")


@pytest.mark.parametrize("address", ["", "here", "here:", ":50051", "here:99999"])
def test_watch_refuses_an_invalid_address(dataset_id: str, address: str) -> None:
    result = CliRunner().invoke(main, ["watch", dataset_id, "x", "--grpc", address])
    assert result.exit_code == 2
    assert f"{address!r} is not HOST:PORT" in result.output
