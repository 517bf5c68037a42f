"""A disk that hangs without an error: every call times out."""

from __future__ import annotations

import dataclasses

import grpc

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.v1 import resources_pb2 as r
from tests.clock import Clock
from tests.conditions import with_more_time
from tests.faults import OpenApp, hanging_reads, hanging_writes
from tests.rpc.calls import Calls, refused, stage

FIRST_S = 0.2


async def create(config: Config, clock: Clock, dataset_id: str) -> None:
    """Create a batch on a server with normal timeouts."""
    async with App(config, clock=clock) as app, Stubs(app.grpc_address) as client:
        await Calls(client, dataset_id).create("a", "b")


async def test_write_times_out_and_is_not_executed_later(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    await create(config, clock, dataset_id)

    async def attempt(timer_s: float) -> None:
        brief = dataclasses.replace(config, request_s=timer_s, max_waiting_calls=1)
        async with OpenApp(brief, clock=clock) as app, Stubs(app.grpc_address) as client:
            calls = Calls(client, dataset_id)
            async with hanging_writes(app.store):
                for document_id in ("a", "b"):  # each is the only waiting call
                    report = calls.report(stage(document_id, r.STAGE_PARSING))
                    refusal = await refused(report, within_s=60)
                    assert refusal.code is grpc.StatusCode.UNAVAILABLE
                    assert refusal.reason == "STORE_TIMEOUT"
                    assert refusal.message == (
                        f"the store did not answer within {timer_s:g} s; try again; a write may or "
                        "may not have been recorded: send it with the same ids"
                    )
                    assert refusal.retry_after_s
                assert not len(app._rpc._pipeline._waiting._waiting)

    await with_more_time(attempt, FIRST_S)
    async with App(config, clock=clock) as app, Stubs(app.grpc_address) as client:
        calls = Calls(client, dataset_id)
        for document_id in ("a", "b"):
            assert (await calls.document(document_id)).stage == r.STAGE_WAITING
        await calls.report(stage("a", r.STAGE_PARSING))
        assert (await calls.document("a")).stage == r.STAGE_PARSING


async def test_read_and_wait_time_out(config: Config, clock: Clock, dataset_id: str) -> None:
    await create(config, clock, dataset_id)

    async def attempt(timer_s: float) -> None:
        brief = dataclasses.replace(config, request_s=timer_s)
        async with OpenApp(brief, clock=clock) as app, Stubs(app.grpc_address) as client:
            calls = Calls(client, dataset_id)
            async with hanging_reads(app.store):
                for call in (calls.batch(), calls.wait()):
                    refusal = await refused(call, within_s=60)
                    assert refusal.code is grpc.StatusCode.UNAVAILABLE
                    assert refusal.reason == "STORE_TIMEOUT"

    await with_more_time(attempt, FIRST_S)
