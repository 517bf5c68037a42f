"""Heartbeats of documents, and the orders in their responses."""

from __future__ import annotations

import grpc
from google.protobuf.duration_pb2 import Duration
from sqlite_utils import Database

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from tests.clock import Clock
from tests.rpc.calls import BATCH, Calls, failure, refused, stage

_GO_ON, _DROP = rs.WORKER_ORDER_GO_ON, rs.WORKER_ORDER_DROP
_PAUSE, _STOP = rs.WORKER_ORDER_PAUSE, rs.WORKER_ORDER_STOP
_SECOND = Duration(seconds=1)


def _heartbeat(document_id: str, attempt: int) -> rs.HeartbeatDocument:
    return rs.HeartbeatDocument(document_id=document_id, attempt=attempt)


async def test_order_follows_the_state_of_each_document(calls: Calls) -> None:
    await calls.create(*"abcdef")
    for document_id in "abcde":
        await calls.start(document_id)
    await calls.pause("b")
    await calls.stop("c")
    await calls.report(stage("d", r.STAGE_COMPLETED), failure("e"))
    orders = await calls.orders("f", "a", "b", "c", "d", "e", "nope", "a")
    assert orders == [_GO_ON, _GO_ON, _PAUSE, _STOP, _DROP, _DROP, _DROP, _GO_ON]


async def test_attempt_other_than_the_current_one_gets_drop(calls: Calls) -> None:
    await calls.create("a")
    await calls.start("a", "w1")
    await calls.start("a", "w2")
    heartbeats = [_heartbeat("a", attempt) for attempt in (1, 2, 3, 0)]
    assert await calls.orders(*heartbeats) == [_DROP, _GO_ON, _DROP, _GO_ON]
    await calls.stop("a")
    assert await calls.orders(_heartbeat("a", 1), _heartbeat("a", 2)) == [_DROP, _STOP]


async def test_heartbeat_of_an_unknown_batch_is_refused(calls: Calls) -> None:
    refusal = await refused(calls.orders("a"))
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert refusal.reason == "BATCH_NOT_FOUND"
    assert refusal.metadata == {"dataset_id": calls.dataset_id, "batch_id": BATCH}


async def test_a_thousand_documents_at_once_get_their_orders(calls: Calls) -> None:
    names = [f"doc-{number}" for number in range(1_000)]
    await calls.create(*names)
    assert await calls.orders(*names) == [_GO_ON] * 1_000


async def test_heartbeat_right_before_a_drain_is_written(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    async with App(config, clock=clock) as server, Stubs(server.grpc_address) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a", "b")
        await calls.start("a")
        await calls.start("b")
        clock.advance(2)
        await calls.orders("a")
    with Database(config.db) as db:
        ages_us = [clock.now_us - row["heard_at"] for row in db["documents"].rows]
    assert ages_us == [0, 2_000_000]
