"""Running calls: a drain waits for them, and for no later ones."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
from collections.abc import Iterator

import pytest
from sqlite_utils.utils import sqlite3

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.errors import Draining
from stagecast.rpc import server
from stagecast.rpc.running_calls import Context, RunningCall, RunningCalls
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.clock import Clock
from tests.conditions import until
from tests.rpc.calls import Calls, refused, stage

NEVER_S = 600.0


@contextlib.contextmanager
def counted(running: RunningCalls) -> Iterator[RunningCall]:
    """Count the running task as a call during the block."""
    context: Context = None  # type: ignore[assignment]  # of no use here
    call = running.begin(context)
    try:
        yield call
    finally:
        running.finish(call)


async def test_wait_ends_with_the_last_call() -> None:
    running = RunningCalls()
    async with asyncio.timeout(60):
        await running.wait_until_empty(NEVER_S)  # there was no call
    with contextlib.ExitStack() as first:
        first.enter_context(counted(running))
        with counted(running):
            empty = asyncio.create_task(running.wait_until_empty(NEVER_S))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not empty.done()
    async with asyncio.timeout(60):
        await empty
        await running.wait_until_empty(NEVER_S)


async def test_wait_ends_at_its_timeout() -> None:
    running = RunningCalls()
    with counted(running):
        async with asyncio.timeout(60):
            await running.wait_until_empty(0.01)


async def test_failed_call_is_no_longer_counted() -> None:
    running = RunningCalls()
    with pytest.raises(LookupError), counted(running):
        raise LookupError
    async with asyncio.timeout(60):
        await running.wait_until_empty(NEVER_S)


async def test_new_calls_are_refused_and_not_counted_after_close() -> None:
    running = RunningCalls()
    running.check()
    running.close()
    with pytest.raises(Draining) as caught:
        running.check()
    assert 0.1 <= caught.value.retry_after_s <= 1.0
    with counted(running):
        async with asyncio.timeout(60):
            await running.wait_until_empty(NEVER_S)


async def test_running_call_is_waited_for_after_close() -> None:
    running = RunningCalls()
    with counted(running):
        running.close()
        empty = asyncio.create_task(running.wait_until_empty(NEVER_S))
        await asyncio.sleep(0)
        assert not empty.done()
    async with asyncio.timeout(60):
        await empty


async def test_refused_calls_get_different_retry_delays() -> None:
    running = RunningCalls()
    running.close()
    delays_s = set()
    for _ in range(100):
        with pytest.raises(Draining) as caught:
            running.check()
        delays_s.add(caught.value.retry_after_s)
    assert len(delays_s) > 90


async def test_running_call_completes_during_a_drain(
    config: Config, clock: Clock, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_HANG_UP_S", 0.0)
    long_timeout = dataclasses.replace(config, drain_s=NEVER_S)
    app = await App(long_timeout, clock=clock).__aenter__()
    async with asyncio.timeout(60), Stubs(app.grpc_address) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a")
        watch = client.status.WatchDatasets(ss.WatchDatasetsRequest())
        await watch.read()
        with contextlib.closing(sqlite3.connect(config.db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            reporting = asyncio.create_task(calls.report(stage("a", r.STAGE_PARSING)))
            await calls.batch()  # sent later, and answered
            leaving = asyncio.create_task(app.__aexit__())
            assert (await refused(watch.read())).reason == "DRAINING"
            await asyncio.wait((reporting, leaving), timeout=0.2)
            other.execute("ROLLBACK")
        assert (await reporting).revision == 4
        await leaving


async def test_answered_calls_leave_nothing_to_the_collector(calls: Calls) -> None:
    """A cycle for each call would have it run all the time."""
    await calls.create("a")
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await calls.batch()
        # A timer that all calls share may keep the one that started it.
        await until(lambda: sum(isinstance(one, RunningCall) for one in gc.get_objects()) <= 2)
    finally:
        gc.enable()
