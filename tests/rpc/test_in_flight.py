"""The gate: who drains waits for whoever is inside, and for nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import pytest
from sqlite_utils.utils import sqlite3

from stagecast.app import App
from stagecast.client import Client
from stagecast.config import Config
from stagecast.errors import Draining
from stagecast.rpc import server
from stagecast.rpc.in_flight import InFlightCalls
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.clock import Clock
from tests.rpc.calls import Calls, refused, stage

NEVER_S = 600.0


async def test_gate_is_empty_when_the_last_has_left() -> None:
    in_flight = InFlightCalls()
    async with asyncio.timeout(60):
        await in_flight.wait_until_empty(NEVER_S)  # nobody has come
    with contextlib.ExitStack() as first:
        first.enter_context(in_flight.inside())
        with in_flight.inside():
            empty = asyncio.create_task(in_flight.wait_until_empty(NEVER_S))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not empty.done()
    async with asyncio.timeout(60):
        await empty
        await in_flight.wait_until_empty(NEVER_S)


async def test_who_does_not_leave_is_waited_for_no_longer_than_that() -> None:
    in_flight = InFlightCalls()
    with in_flight.inside():
        async with asyncio.timeout(60):
            await in_flight.wait_until_empty(0.01)


async def test_call_that_breaks_has_left() -> None:
    in_flight = InFlightCalls()
    with pytest.raises(LookupError), in_flight.inside():
        raise LookupError
    async with asyncio.timeout(60):
        await in_flight.wait_until_empty(NEVER_S)


async def test_closed_gate_refuses_and_waits_for_nobody_who_comes_then() -> None:
    in_flight = InFlightCalls()
    in_flight.check()
    in_flight.close()
    with pytest.raises(Draining) as caught:
        in_flight.check()
    assert 0.1 <= caught.value.retry_after_s <= 1.0
    with in_flight.inside():
        async with asyncio.timeout(60):
            await in_flight.wait_until_empty(NEVER_S)


async def test_who_was_inside_when_the_gate_was_closed_is_waited_for() -> None:
    in_flight = InFlightCalls()
    with in_flight.inside():
        in_flight.close()
        empty = asyncio.create_task(in_flight.wait_until_empty(NEVER_S))
        await asyncio.sleep(0)
        assert not empty.done()
    async with asyncio.timeout(60):
        await empty


async def test_who_is_sent_away_comes_back_each_at_a_time_of_their_own() -> None:
    in_flight = InFlightCalls()
    in_flight.close()
    pauses = set()
    for _ in range(100):
        with pytest.raises(Draining) as caught:
            in_flight.check()
        pauses.add(caught.value.retry_after_s)
    assert len(pauses) > 90


async def test_call_under_way_is_finished_when_the_server_drains(
    config: Config, clock: Clock, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_HANG_UP_S", 0.0)
    patient = dataclasses.replace(config, drain_s=NEVER_S)
    app = await App(patient, clock=clock).__aenter__()
    async with asyncio.timeout(60), Client(app.grpc_address) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a")
        watch = client.status.WatchDatasets(ss.WatchDatasetsRequest())
        await watch.read()
        with contextlib.closing(sqlite3.connect(config.db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            reporting = asyncio.create_task(calls.report(stage("a", r.STAGE_PARSING)))
            await calls.batch()  # asked later, and answered
            leaving = asyncio.create_task(app.__aexit__())
            assert (await refused(watch.read())).reason == "DRAINING"
            await asyncio.wait((reporting, leaving), timeout=0.2)
            other.execute("ROLLBACK")
        assert (await reporting).revision == 4
        await leaving
