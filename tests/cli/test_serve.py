"""`stagecast serve` as an administrator sees it: its ready line, its errors and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import urllib.request
import uuid
from pathlib import Path

import httpx
import pytest
from grpc import aio

from stagecast.client import Stubs, details_of
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import status_service_pb2 as s
from tests.cli.command import Running, command, stagecast, started
from tests.conditions import until
from tests.process import command_line, environment, free_address, running
from tests.rpc.calls import Calls

READY = re.compile(r"stagecast ready grpc=(127\.0\.0\.1:\d+) http=(127\.0\.0\.1:\d+)\n")
ANY = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")


def limited(descriptors: int, db: Path) -> tuple[str, ...]:
    """Return a command line of a server with a limit of file descriptors."""
    return "bash", "-c", f'ulimit -n {descriptors}; exec "$@"', "bash", *command_line(db)


async def test_too_few_file_descriptors_are_reported_in_one_line(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *limited(40, tmp_path / "s.db"), env=environment(), stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        _, reported = await process.communicate()
    assert process.returncode == 1
    assert reported.decode() == (
        "Error: the limit of open files is 40, and a server needs at least 102; raise it with "
        "'ulimit -n'\n"
    )


@pytest.mark.slow
async def test_idle_connections_leave_the_store_its_file_descriptors(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *limited(140, tmp_path / "s.db"),
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60), contextlib.AsyncExitStack() as stack:
        ready = READY.fullmatch((await process.stdout.readline()).decode())
        assert ready is not None
        client = await stack.enter_async_context(Stubs(ready[1]))
        await client.status.ListDatasets(s.ListDatasetsRequest())
        for address in ready.groups():
            for _ in range(70):
                peer = stack.enter_context(socket.socket())
                peer.setblocking(False)
                host, port = address.split(":")
                with contextlib.suppress(OSError):
                    await asyncio.get_running_loop().sock_connect(peer, (host, int(port)))
        # The last connection is one of HTTP.
        answer = await asyncio.get_running_loop().sock_recv(peer, 1_000)
        assert answer.startswith(b"HTTP/1.1 503 ")
        # Each read may open the file, and a write also its write-ahead log.
        await client.reports.CreateBatch(rs.CreateBatchRequest(dataset_id=str(uuid.uuid4())))
        reads = (client.status.ListDatasets(s.ListDatasetsRequest()) for _ in range(20))
        assert all(len(page.datasets) == 1 for page in await asyncio.gather(*reads))
        process.terminate()
        _, log = await process.communicate()
    assert process.returncode == 0
    assert b"gRPC and HTTP accept 20 connections each instead of 5000" in log
    assert b"Traceback" not in log


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_serve_prints_one_line_and_exits_with_0_on_signals(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with started("serve", "--db", tmp_path / "s.db", *ANY) as server:
        assert READY.fullmatch(await server.line())
        server.process.send_signal(number)
        ended = await server.end()
    assert (ended.code, ended.out) == (0, "")
    assert "Traceback" not in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_serve_under_nohup_survives_a_closed_terminal(tmp_path: Path, processes: str) -> None:
    serve = command("serve", "--db", tmp_path / "s.db", *ANY, "--processes", processes)
    process = await asyncio.create_subprocess_exec(
        *("nohup", *serve),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        process_group=0,
    )
    server = Running(process)
    ready = READY.fullmatch(await server.line())
    assert ready is not None
    os.killpg(process.pid, signal.SIGHUP)
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"http://{ready[2]}/healthz")).status_code == 200
    process.terminate()
    assert (await server.end()).code == 0


@pytest.mark.parametrize("early", ["begun", "imported", "listening"])
async def test_serve_stopped_before_it_is_ready_ends_quietly(tmp_path: Path, early: str) -> None:
    db = tmp_path / "s.db"
    async with started("serve", "--db", db, *ANY) as server:
        pid = server.process.pid
        if early == "imported":
            await until(lambda: "grpc" in Path(f"/proc/{pid}/maps").read_text())
        if early == "listening":
            await until(db.exists)
        server.process.send_signal(signal.SIGTERM)
        ended = await server.end()
    assert ended.code in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert "Traceback" not in ended.err


async def test_ready_line_has_the_grpc_and_http_addresses(tmp_path: Path) -> None:
    async with started("serve", "--db", tmp_path / "s.db", *ANY) as server:
        ready = READY.fullmatch(await server.line())
        assert ready is not None
        async with Stubs(ready[1]) as client:
            with pytest.raises(Exception, match="no dataset"):
                await client.status.GetDataset(
                    s.GetDatasetRequest(dataset_id="6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11")
                )
        with urllib.request.urlopen(f"http://{ready[2]}/api/v1/datasets/status") as response:  # noqa: ASYNC210 - our own server in another process
            assert json.load(response) == {}


async def test_serve_takes_its_settings_from_the_environment(tmp_path: Path) -> None:
    db, grpc, http = tmp_path / "env.db", free_address(), free_address()
    variables = {"STAGECAST_DB": str(db), "STAGECAST_GRPC": grpc, "STAGECAST_HTTP": http}
    async with started("serve", **variables) as server:
        assert await server.line() == f"stagecast ready grpc={grpc} http={http}\n"
    assert db.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("option", "protocol"), [("--grpc", "gRPC"), ("--http", "HTTP")])
async def test_serve_names_the_address_in_use(tmp_path: Path, option: str, protocol: str) -> None:
    async with running(tmp_path / "s.db") as other:
        start = other.grpc if option == "--grpc" else other.http
        ended = await stagecast("serve", "--db", tmp_path / "t.db", *ANY, option, start)
    assert (ended.code, ended.out) == (1, "")
    [line] = ended.err.splitlines()
    assert line.startswith(f"Error: cannot listen for {protocol} on {start}: ")
    assert line.endswith(
        f": Address already in use; stop the program that listens there, or use another address "
        f"with {option}"
    )
    assert "(" not in line  # Python's own message repeats the address


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("option", ["--grpc", "--http"])
async def test_serve_creates_no_file_if_an_address_is_in_use(
    tmp_path: Path, option: str, processes: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        start = f"127.0.0.1:{other.getsockname()[1]}"
        ended = await stagecast(
            "serve", "--db", tmp_path / "t.db", *ANY, option, start, "--processes", processes
        )
    assert (ended.code, ended.out) == (1, "")
    assert not list(tmp_path.iterdir())


async def test_serve_creates_no_file_if_a_key_file_is_missing(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    for option in ("--jwt-key", "--tls-cert"):
        ended = await stagecast("serve", "--db", tmp_path / "t.db", *ANY, option, missing)
        assert ended.code == 1
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
async def test_serve_refuses_a_foreign_file(tmp_path: Path) -> None:
    foreign, text = tmp_path / "foreign.db", tmp_path / "text.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE kept (id)")
    connection.close()
    before = foreign.read_bytes()
    text.write_text("This is no database at all.")
    for path, why in [(foreign, "not a stagecast database"), (text, "not a database")]:
        ended = await stagecast("serve", "--db", path, *ANY)
        assert (ended.code, ended.out) == (1, "")
        [line] = ended.err.splitlines()
        assert line.startswith("Error: ")
        assert why in line
    assert foreign.read_bytes() == before


async def test_serve_refuses_a_missing_directory(tmp_path: Path) -> None:
    ended = await stagecast("serve", "--db", tmp_path / "missing" / "s.db", *ANY)
    assert ended.code == 1
    assert ended.err.startswith("Error: cannot open ")


async def test_insecure_server_listens_on_public_addresses(tmp_path: Path) -> None:
    everywhere = ("--grpc", "0.0.0.0:0", "--http", "0.0.0.0:0", "--insecure")
    async with started("serve", "--db", tmp_path / "s.db", *everywhere) as server:
        assert re.match(r"stagecast ready grpc=0\.0\.0\.0:\d+ http=", await server.line())


async def test_pages_of_a_cors_origin_may_read_responses(tmp_path: Path) -> None:
    page = "http://localhost:3000"
    async with (
        running(tmp_path / "s.db", "--cors-origin", page) as server,
        httpx.AsyncClient(timeout=60) as http,
    ):
        answer = await http.get(
            f"http://{server.http}/api/v1/datasets/status", headers={"Origin": page}
        )
    assert answer.headers["Access-Control-Allow-Origin"] == page


async def test_serve_refuses_an_invalid_origin(tmp_path: Path) -> None:
    ended = await stagecast("serve", "--db", tmp_path / "s.db", *ANY, "--cors-origin", "*")
    assert ended.code == 2
    assert "'*' is not an origin such as https://app.example.com" in ended.err


async def test_serve_takes_its_limits_from_options_and_from_the_environment(
    tmp_path: Path,
) -> None:
    limits = ("--max-watches-per-caller", "1", "--slow-reader", "5")
    variables = {"STAGECAST_MAX_WAITING_CALLS": "7", "STAGECAST_MAX_WATCHES": "9"}
    async with started("serve", "--db", tmp_path / "s.db", *ANY, *limits, **variables) as server:
        ready = READY.fullmatch(await server.line())
        assert ready is not None
        async with Stubs(ready[1]) as client:
            watch = client.status.WatchDatasets(s.WatchDatasetsRequest())
            await watch.read()
            with pytest.raises(aio.AioRpcError, match=r"of one caller: 1 open \(limit: 1\)"):
                await client.status.WatchDatasets(s.WatchDatasetsRequest()).read()


@pytest.mark.slow
async def test_serve_takes_its_timeouts_from_options(tmp_path: Path, dataset_id: str) -> None:
    db, limits = tmp_path / "s.db", ("--wait-timeout", "0.05", "--watch-life", "0.5")
    async with running(db, *limits) as server, Stubs(server.grpc) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a")
        assert not (await calls.wait(within_s=60)).done
        watch = client.status.WatchDatasets(s.WatchDatasetsRequest())
        with pytest.raises(aio.AioRpcError) as expired:
            async for _ in watch:
                pass
    assert details_of(expired.value).reason == "WATCH_EXPIRED"


@pytest.mark.parametrize(
    "option",
    ["--max-watches", "--max-connections", "--slow-reader", "--wait-timeout", "--keepalive"],
)
async def test_serve_refuses_a_limit_of_zero(option: str) -> None:
    ended = await stagecast("serve", *ANY, option, "0")
    assert ended.code == 2
    assert option in ended.err


async def test_rest_paths_are_served_with_and_without_root_path(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "s.db", "--http-root-path", "/ingestion") as server,
        httpx.AsyncClient() as http,
    ):
        for prefix in ("", "/ingestion"):
            answer = await http.get(f"http://{server.http}{prefix}/api/v1/datasets/status")
            assert (answer.status_code, answer.json()) == (200, {})


async def test_serve_refuses_an_invalid_root_path(tmp_path: Path) -> None:
    ended = await stagecast("serve", "--db", tmp_path / "s.db", *ANY, "--http-root-path", "/a/")
    assert ended.code == 2
    assert "'/a/' is not a path such as /stagecast" in ended.err


async def test_serve_ignores_variables_of_its_libraries(tmp_path: Path) -> None:
    odd = {"WEB_CONCURRENCY": "many", "FORWARDED_ALLOW_IPS": "?", "TZ": "nowhere", "COLUMNS": "0"}
    async with started("serve", "--db", tmp_path / "s.db", *ANY, **odd) as server:
        assert READY.fullmatch(await server.line())
