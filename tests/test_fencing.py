"""Two workers on one document: the older one is refused, with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from stagecast.client import Stubs
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from tests.process import running
from tests.rpc.calls import BATCH, Calls, counters, failure, refused, stage

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class _Worker:
    """A worker at one server, with its attempt."""

    calls: Calls
    attempt: int

    def sign(self, report: rs.DocumentReport) -> rs.DocumentReport:
        signed = rs.DocumentReport(attempt=self.attempt)
        signed.MergeFrom(report)
        return signed

    async def order(self) -> rs.WorkerOrder.ValueType:
        [order] = await self.calls.orders(
            rs.HeartbeatDocument(document_id="a", attempt=self.attempt)
        )
        return order


async def _take(calls: Calls, worker: str) -> _Worker:
    return _Worker(calls=calls, attempt=(await calls.start("a", worker)).attempt)


async def _check_fenced(older: _Worker, current: int) -> None:
    """Try every report of an older worker; each is refused and changes nothing."""
    calls = older.calls
    before = (await calls.batch(), (await calls.page()).documents, await calls.history())
    for report in (
        stage("a", r.STAGE_WAITING),
        stage("a", r.STAGE_INDEXING),
        stage("a", r.STAGE_COMPLETED),
        counters("a", 99),
        failure("a"),
    ):
        refusal = await refused(calls.report(stage("b", r.STAGE_PARSING), older.sign(report)))
        assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
        assert refusal.reason == "STALE_ATTEMPT"
        assert refusal.metadata == {
            "dataset_id": calls.dataset_id,
            "batch_id": BATCH,
            "document_id": "a",
            "index": "1",
            "attempt": str(current),
        }
    assert await older.order() == rs.WORKER_ORDER_DROP
    after = (await calls.batch(), (await calls.page()).documents, await calls.history())
    assert after == before


async def test_older_worker_is_fenced_at_every_server_also_after_a_restart(
    tmp_path: Path, dataset_id: str
) -> None:
    db = tmp_path / "stagecast.db"
    async with running(db) as one, running(db) as two, Stubs(one.grpc) as here:
        async with Stubs(two.grpc) as there:
            await Calls(here, dataset_id).create("a", "b")
            older = await _take(Calls(here, dataset_id), "older")
            await older.calls.report(older.sign(stage("a", r.STAGE_INDEXING)))
            newer = await _take(Calls(there, dataset_id), "newer")
            assert (older.attempt, newer.attempt) == (1, 2)
            await _check_fenced(older, 2)
            await _check_fenced(_Worker(calls=newer.calls, attempt=1), 2)
            await newer.calls.report(newer.sign(stage("a", r.STAGE_PARSING)))
            assert await newer.order() == rs.WORKER_ORDER_GO_ON
        await one.kill()
        await two.kill()
    async with running(db) as again, Stubs(again.grpc) as client:
        older, newer = (
            _Worker(calls=Calls(client, dataset_id), attempt=attempt) for attempt in (1, 2)
        )
        await _check_fenced(older, 2)
        await newer.calls.report(newer.sign(stage("a", r.STAGE_COMPLETED)))
        await _check_fenced(older, 2)
        assert (await newer.calls.document("a")).state == r.DOCUMENT_STATE_SUCCEEDED
        assert await newer.order() == rs.WORKER_ORDER_DROP


async def test_worker_whose_document_was_lost_is_fenced_by_the_next_attempt(
    tmp_path: Path, dataset_id: str
) -> None:
    """It was only slow: until another attempt starts, its reports meet an ended document."""
    async with running(tmp_path / "stagecast.db") as server, Stubs(server.grpc) as client:
        calls = Calls(client, dataset_id)
        second = {"seconds": 1}
        await calls.create("a", "b", stall_after=second, fail_after=second)
        slow = await _take(calls, "slow")
        await calls.stop("b")
        assert (await calls.wait(within_s=60)).done
        assert (await calls.document("a")).error.reason == "WORKER_LOST"
        refusal = await refused(calls.report(slow.sign(stage("a", r.STAGE_INDEXING))))
        assert refusal.reason == "ILLEGAL_TRANSITION"
        assert await slow.order() == rs.WORKER_ORDER_DROP
        await calls.retry("b")
        assert (await _take(calls, "slow")).attempt == 2
        await _check_fenced(slow, 2)
