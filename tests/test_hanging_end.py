"""A server whose disk hangs stops on SIGTERM, and logs what it abandoned."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc import StatusCode, aio

from stagecast import app as app_module
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.errors import StartError
from stagecast.rest import HttpServer
from stagecast.store.sqlite import store as sqlite_store
from stagecast.v1 import resources_pb2 as r
from tests.clock import Clock
from tests.conditions import until
from tests.faults import OpenApp, hanging_reads, hanging_writes
from tests.hanging import HANGS
from tests.process import ServerProcess, running
from tests.rpc.calls import BATCH, Calls, refused
from tests.watches.pipeline import Pipeline

linux = pytest.mark.skipif(sys.platform != "linux", reason="SO_REUSEPORT spreads nothing here")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=linux)])
async def test_process_with_a_hanging_disk_stops_and_loses_nothing_acknowledged(
    tmp_path: Path, dataset_id: str, processes: int
) -> None:
    """With several processes, the one whose transaction hangs blocks the writes of the others."""
    db = tmp_path / "s.db"
    log = Path(f"{db}.log")
    options = ("--processes", str(processes), "--drain", "0.1")
    async with (
        running(db, *options, program="tests.hanging") as server,
        Stubs(server.grpc) as client,
    ):
        pipeline = Pipeline(client, dataset_id)
        await pipeline.create(3)
        await pipeline.stage(r.STAGE_PARSING)
        acknowledged = await pipeline.documents()
        os.kill(_serving(server)[0], signal.SIGUSR1)
        await until(lambda: HANGS in log.read_text())
        waiting = asyncio.create_task(pipeline.stage(r.STAGE_COMPLETED))
        await asyncio.sleep(0)  # it is sent
        assert await server.stop() == 0
        with pytest.raises(aio.AioRpcError):
            await waiting
    left = "the store was not closed within 5 s: a write has not ended and 4 of 4 reads have not"
    assert log.read_text().count(left) == 1
    assert "Traceback" not in log.read_text()
    async with running(db) as again, Stubs(again.grpc) as client:
        assert await Pipeline(client, dataset_id, pipeline.batch_id).documents() == acknowledged


def _serving(server: ServerProcess) -> list[int]:
    """Return the processes that serve: the children of a supervisor, or the only one."""
    pid = server.process.pid
    if sys.platform != "linux":
        return [pid]
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    commands = {one: Path(f"/proc/{one}/cmdline").read_bytes() for one in children}
    return [one for one, command in commands.items() if b"spawn_main" in command] or [pid]


class _EndingApp(OpenApp):
    """A server with access to its running requests."""

    http: HttpServer

    def _make_http(self, *args: Any) -> HttpServer:
        self.http = super()._make_http(*args)
        return self.http


async def test_server_with_a_hanging_store_stops_and_answers_waiting_calls(
    config: Config,
    clock: Clock,
    dataset_id: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(app_module, "LAST_WRITES_S", 0.1)
    monkeypatch.setattr(sqlite_store, "CLOSE_S", 0.1)
    async with asyncio.timeout(60):
        app = _EndingApp(dataclasses.replace(config, drain_s=0.1), clock=clock)
        await app.__aenter__()
        async with (
            Stubs(app.grpc_address) as client,
            httpx.AsyncClient(timeout=60) as http,
            hanging_writes(app.store),
            hanging_reads(app.store),
        ):
            calls = Calls(client, dataset_id)
            unanswered = [calls.create("a"), calls.batch(), calls.wait()]
            waiting = [asyncio.create_task(refused(call, within_s=60)) for call in unanswered]
            name = f"datasets/{dataset_id}/documents/{BATCH}/indexing-status"
            polling = asyncio.create_task(http.get(f"http://{app.http_address}/v1/{name}"))
            await until(lambda: len(app._rpc._pipeline._running._calls) == len(waiting))
            await until(lambda: bool(app.http._server.server_state.tasks))
            await app.__aexit__()
            assert (await polling).status_code == 503
            for refusal in await asyncio.gather(*waiting):
                assert (refusal.code, refusal.reason) == (StatusCode.UNAVAILABLE, "DRAINING")
                assert "try again; a write may or may not have been recorded" in refusal.message
                assert refusal.retry_after_s
    assert "Traceback" not in caplog.text
    assert "a write has not ended and 4 of 4 reads have not ended" in caplog.text
    assert "release the stall detector's lease: the store did not" in caplog.text


class _StartingApp(OpenApp):
    """A server whose disk hangs before it reads its keys."""

    async def _make_authenticator(self, *args: Any) -> Any:
        async with hanging_reads(self.store):
            return await super()._make_authenticator(*args)


async def test_server_whose_disk_hangs_at_the_start_gives_up(config: Config, clock: Clock) -> None:
    impatient = dataclasses.replace(config, request_s=0.1)
    with pytest.raises(StartError, match=r"the store did not answer within 0\.1 s"):
        async with asyncio.timeout(60), _StartingApp(impatient, clock=clock):
            pass
