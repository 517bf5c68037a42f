"""`stagecast serve --processes`: several servers on one file and port, some of which die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from grpc import aio

from stagecast.cli import main
from stagecast.client import Stubs, details_of
from stagecast.config import Config, split_address
from stagecast.store.sqlite import connection
from stagecast.supervisor import supervisor
from stagecast.supervisor.supervisor import ServerProcess, _Slot
from stagecast.v1 import status_service_pb2 as s
from stagecast.v1.status_service_pb2_grpc import StatusServiceStub
from tests.cli.command import stagecast
from tests.cli.test_serve import ANY
from tests.conditions import with_more_time
from tests.process import free_address, running
from tests.supervisor.service import TIMEOUT_S, Service, serving
from tests.validator import WatchRecord
from tests.watches.pipeline import Pipeline, check_all

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs SO_REUSEPORT")

# The first bytes of a client, to which each protocol responds.
HELLO = {
    "grpc": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)),
    "http": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
}


def connect(service: Service, protocol: str) -> socket.socket:
    """Return a connection on which a server has responded."""
    address = split_address(getattr(service, protocol))
    connection = socket.create_connection(address, timeout=TIMEOUT_S)
    connection.sendall(HELLO[protocol])
    assert connection.recv(1)
    connection.setblocking(False)
    return connection


def is_broken(connection: socket.socket) -> bool:
    """Return whether the other side is gone."""
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


@pytest.mark.slow
async def test_connections_are_spread_and_dead_processes_replaced(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path / "s.db") as service:
        processes = await service.ready(3)
        with contextlib.ExitStack() as stack:
            connections = {
                protocol: [stack.enter_context(connect(service, protocol)) for _ in range(40)]
                for protocol in HELLO
            }
            for process in processes[:2]:
                os.kill(process, signal.SIGKILL)
                await service.logged(f"process {process} died of signal 9, Killed; starting an")
                for protocol, whole in connections.items():
                    connections[protocol] = [c for c in whole if not is_broken(c)]
                    assert 0 < len(connections[protocol]) < len(whole)
                await service.next_ready()
        # A process that gets SIGTERM from outside drains, and is replaced as well.
        os.kill(processes[2], signal.SIGTERM)
        await service.logged(f"process {processes[2]} ended with exit code 0; starting another")
        await service.next_ready()
        for protocol in HELLO:
            connect(service, protocol).close()
        service.process.terminate()
        assert (await service.end())[0] == 0


@pytest.mark.slow
async def test_clients_continue_whichever_process_dies(tmp_path: Path, dataset_id: str) -> None:
    async with serving(tmp_path / "s.db") as service:
        processes = await service.ready(3)
        async with Stubs(service.grpc) as client, contextlib.AsyncExitStack() as stack:
            pipeline = Pipeline(client, dataset_id)
            await pipeline.create(100, more_documents_follow=True)
            records = [WatchRecord() for _ in range(5)]
            async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
                for record in records:
                    watcher = await stack.enter_async_context(client_apart(service.grpc))
                    group.create_task(watch(watcher, pipeline, record))
                group.create_task(pipeline.run(random.Random(4)))
                for process, reports in zip(processes, (50, 150, 250), strict=True):
                    await pipeline.until_acknowledged(reports)
                    os.kill(process, signal.SIGKILL)
                    await service.next_ready()
            check_all(records, pipeline, await pipeline.documents())
        service.process.terminate()
        assert (await service.end())[0] == 0


@contextlib.asynccontextmanager
async def client_apart(address: str) -> AsyncIterator[Stubs]:
    """Give a client with a separate connection: by default, those of one process share one."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with Stubs(address) as client, aio.insecure_channel(address, options) as channel:
        client.status = StatusServiceStub(channel)
        yield client


async def watch(client: Stubs, pipeline: Pipeline, record: WatchRecord) -> None:
    request = s.WatchBatchRequest(dataset_id=pipeline.dataset_id, batch_id=pipeline.batch_id)
    async for message in client.watch(request):
        record.receive(message)


@pytest.mark.slow
async def test_repeated_sigterm_drains_all_processes(tmp_path: Path, dataset_id: str) -> None:
    async with serving(tmp_path / "s.db") as service:
        await service.ready(3)
        async with Stubs(service.grpc) as client, contextlib.AsyncExitStack() as stack:
            pipeline = Pipeline(client, dataset_id)
            await pipeline.create(1)
            watching = []
            for _ in range(10):
                watcher = await stack.enter_async_context(client_apart(service.grpc))
                stream = Pipeline(watcher, dataset_id, pipeline.batch_id).stream()
                watching.append(await stack.enter_async_context(stream))
                await watching[-1].read()
            service.process.terminate()
            await service.logged("received a stop signal")
            for number in (signal.SIGTERM, signal.SIGINT):
                service.process.send_signal(number)
            errors = [await stream.error() for stream in watching]
            assert {details_of(error).reason for error in errors} == {"DRAINING"}
            code, log = await service.end()
        assert code == 0
        assert "Traceback" not in log
        assert len(re.findall("stopping", log)) == 3
        for address in (service.grpc, service.http):
            socket.create_server(split_address(address)).close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("early", [False, True])
async def test_ctrl_c_and_a_closed_terminal_stop_all_processes(
    tmp_path: Path, early: bool, number: signal.Signals
) -> None:
    async with serving(tmp_path / "s.db") as service:
        await (service.starting() if early else service.ready(3))
        os.killpg(service.process.pid, number)
        code, log = await service.end()
    assert code == 0
    assert "Traceback" not in log
    assert "KeyboardInterrupt" not in log


@pytest.mark.slow
async def test_processes_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    async with serving(tmp_path / "s.db", processes=2) as service:
        await service.ready(2)
        service.process.kill()
        code, log = await service.end()  # also of the others: they hold the other side of its pipes
    assert code == -signal.SIGKILL
    assert len(re.findall("the supervisor is gone", log)) == 2
    assert "Traceback" not in log
    for address in (service.grpc, service.http):
        socket.create_server(split_address(address)).close()


@pytest.mark.slow
async def test_port_in_use_is_reported_as_by_one_process(tmp_path: Path) -> None:
    async with running(tmp_path / "s.db", "--processes", "2") as service:
        for option, protocol, started in (
            ("--grpc", "gRPC", service.grpc),
            ("--http", "HTTP", service.http),
        ):
            requested = ("serve", "--db", tmp_path / "t.db", *ANY, option, started)
            alone = await stagecast(*requested)
            several = await stagecast(*requested, STAGECAST_PROCESSES="2")
            assert several == alone
            assert (several.code, several.out) == (1, "")
            [line] = several.err.splitlines()
            assert line.startswith(f"Error: cannot listen for {protocol} on {started}: ")


@pytest.mark.slow
async def test_start_error_is_reported_once_as_by_one_process(tmp_path: Path) -> None:
    foreign, missing = tmp_path / "foreign.db", tmp_path / "missing" / "s.db"
    foreign.write_text("This is no database at all.")
    for db in (foreign, missing):
        alone = await stagecast("serve", "--db", db, *ANY)
        several = await stagecast("serve", "--db", db, *ANY, "--processes", "3")
        assert several == alone
        assert several.code == 1


@pytest.mark.slow
async def test_process_that_dies_before_it_is_ready_ends_the_service(tmp_path: Path) -> None:
    async with serving(tmp_path / "s.db") as service:
        [process, *_] = await service.starting()
        os.kill(process, signal.SIGKILL)
        code, log = await service.end()
    assert code == 1
    assert f"Error: process {process} died of signal 9, Killed before it was ready\n" in log


@pytest.mark.slow
async def test_failed_replacement_of_a_process_is_retried(tmp_path: Path) -> None:
    directory, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    directory.mkdir()
    async with serving(directory / "s.db", processes=2) as service:
        process, _ = await service.ready(2)
        directory.rename(elsewhere)
        os.kill(process, signal.SIGKILL)
        for _ in range(2):
            await service.logged("ERROR .* cannot open .*: there is no directory")
            await service.logged("ended with exit code 1; starting another")
        elsewhere.rename(directory)
        await service.next_ready()
        service.process.terminate()
        assert (await service.end())[0] == 0


async def test_process_that_does_not_stop_in_time_is_killed(tmp_path: Path) -> None:
    grpc, http = free_address(), free_address()
    server = ServerProcess(Config(db=tmp_path / "s.db", grpc=grpc, http=http))
    async with asyncio.timeout(TIMEOUT_S):
        ready = await server.ready()
        assert (ready.grpc, ready.http) == (grpc, http)
        assert server.id is not None
        os.kill(server.id, signal.SIGSTOP)
        end = await server.stop(0.1)
    assert end == f"process {server.id} died of signal 9, Killed: it did not stop within 0.1 s"


async def test_process_is_killed_after_the_drain_time_and_a_margin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert supervisor._MARGIN_S > 1
    monkeypatch.setattr(supervisor, "_MARGIN_S", 0.25)
    async with asyncio.timeout(TIMEOUT_S), slot_for(tmp_path, drain_s=0.5) as slot:
        await slot.fill()
        assert slot._server is not None
        assert slot._server.id is not None
        os.kill(slot._server.id, signal.SIGSTOP)
        end = await slot.clear()
    assert end is not None
    assert end.endswith("died of signal 9, Killed: it did not stop within 0.75 s")


async def test_process_that_is_not_ready_in_time_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(TIMEOUT_S), slot_for(tmp_path, replaced_within_s=0.01) as slot:
        await slot._refill()
        server = slot._server
        assert server is not None
        assert caplog.messages == [f"process {server.id} is not ready after 0.01 s; killing it"]
        assert await server.end() == f"process {server.id} died of signal 9, Killed"


def test_replacement_may_wait_for_a_migration_by_another_process() -> None:
    assert Config().replaced_within_s > connection._MIGRATION_TIMEOUT_S


async def test_process_hangs_after_six_missed_heartbeats_in_a_row() -> None:
    alive = iter([*[False] * 5, True, *[False] * 6])

    class Silent(ServerProcess):
        def __init__(self) -> None:
            pass  # no process is started

        async def _is_alive(self) -> bool:
            return next(alive)

    await Silent().wait_until_hung()
    assert not [*alive]


@contextlib.asynccontextmanager
async def slot_for(tmp_path: Path, **settings: Any) -> AsyncIterator[_Slot]:
    """Give a slot, and kill its process at the end of the block."""
    config = Config(db=tmp_path / "s.db", grpc="127.0.0.1:0", http="127.0.0.1:0", **settings)
    slot = _Slot(config)
    try:
        yield slot
    finally:
        if slot._server is not None:
            slot._server.kill()
            await slot._server.end()
            slot._server.close()


@pytest.mark.slow
async def test_hung_process_is_replaced(tmp_path: Path) -> None:
    config = Config(
        db=tmp_path / "s.db",
        grpc="127.0.0.1:0",
        http="127.0.0.1:0",
        process_heartbeat_s=0.5,
    )
    async with serving(config.db, config=config, processes=2) as service:
        hung, other = await service.ready(2)
        os.kill(hung, signal.SIGSTOP)
        assert await service.logged(f"process {hung} hangs; killing it")
        assert await service.logged(f"process {hung} died of signal 9, Killed; starting another")
        assert await service.next_ready() not in (hung, other)
        service.process.terminate()
        code, log = await service.end()
    assert code == 0
    assert f"process {other} hangs" not in log


@pytest.mark.slow
async def test_process_that_hangs_before_it_is_ready_is_replaced(tmp_path: Path) -> None:
    config = Config(
        db=tmp_path / "s.db", grpc="127.0.0.1:0", http="127.0.0.1:0", replaced_within_s=15.0
    )
    async with serving(config.db, config=config, processes=2) as service:
        dead, other = await service.ready(2)
        os.kill(dead, signal.SIGKILL)
        await service.logged(f"process {dead} died of signal 9")
        [hung] = await service.starting(other)
        os.kill(hung, signal.SIGSTOP)
        await service.logged(f"process {hung} is not ready after 15 s; killing it")
        await service.logged(f"process {hung} died of signal 9, Killed; starting another")
        assert await service.next_ready() not in (dead, other, hung)
        service.process.terminate()
        assert (await service.end())[0] == 0


@pytest.mark.slow
async def test_process_that_drains_for_long_does_not_count_as_hung(tmp_path: Path) -> None:
    """Each drains for longer than it may be without heartbeats."""

    async def drain(heartbeat_s: float) -> None:
        config = Config(
            db=tmp_path / f"{heartbeat_s}.db",
            grpc="127.0.0.1:0",
            http="127.0.0.1:0",
            process_heartbeat_s=heartbeat_s,
            linger_s=10 * heartbeat_s,
        )
        async with serving(config.db, config=config, processes=2) as service:
            first, second = await service.ready(2)
            os.kill(first, signal.SIGTERM)
            await service.logged(f"process {first} ended with exit code 0; starting another")
            await service.next_ready()
            service.process.terminate()
            code, log = await service.end()
        assert code == 0
        assert "hangs" not in log
        assert f"process {second} ended" not in log

    await with_more_time(drain, 0.5)


@pytest.mark.slow
async def test_service_continues_after_sigstop_and_sigcont(tmp_path: Path) -> None:
    config = Config(
        db=tmp_path / "s.db",
        grpc="127.0.0.1:0",
        http="127.0.0.1:0",
        process_heartbeat_s=0.5,
    )
    async with serving(config.db, config=config, processes=2) as service:
        processes = await service.ready(2)
        os.killpg(service.process.pid, signal.SIGSTOP)
        # There is nothing to wait for meanwhile.
        await asyncio.sleep(10 * config.process_heartbeat_s)
        os.killpg(service.process.pid, signal.SIGCONT)
        with connect(service, "http") as connection:
            assert not is_broken(connection)
        service.process.terminate()
        code, log = await service.end()
    assert code == 0
    assert all(f"process {process} hangs" not in log for process in processes)


@pytest.mark.slow
async def test_processes_raise_their_limit_of_open_files(tmp_path: Path) -> None:
    """Each connection needs one, and the usual limit is a fifth of what a server accepts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard))
    try:
        async with serving(tmp_path / "s.db", processes=2) as service:
            for process in await service.ready(2):
                assert resource.prlimit(process, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_than_one_process_needs_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    requested = ["serve", "--db", str(tmp_path / "s.db"), *ANY, "--processes", "2"]
    result = CliRunner().invoke(main, requested)
    assert result.exit_code == 2
    assert "--processes above 1 needs Linux" in result.output


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_invalid_number_of_processes_is_refused(tmp_path: Path, number: str) -> None:
    requested = ["serve", "--db", str(tmp_path / "s.db"), *ANY, "--processes", number]
    result = CliRunner().invoke(main, requested)
    assert result.exit_code == 2
    assert "Invalid value for '--processes'" in result.output
