"""Reports of workers on documents that an operator has paused, stopped or retried."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from stagecast.v1 import resources_pb2 as r
from tests.rpc.calls import Calls, counters, failure, refused, stage

PENDING, RUNNING, PAUSED = (
    r.DOCUMENT_STATE_PENDING,
    r.DOCUMENT_STATE_RUNNING,
    r.DOCUMENT_STATE_PAUSED,
)
SUCCEEDED, FAILED = r.DOCUMENT_STATE_SUCCEEDED, r.DOCUMENT_STATE_FAILED


async def test_paused_document_records_reports_of_its_worker(calls: Calls) -> None:
    await calls.create("a")
    await calls.start("a")
    await calls.pause()
    assert await calls.outcomes(stage("a", r.STAGE_PARSING)) == ["APPLIED"]
    assert await calls.outcomes(counters("a", 1, 2)) == ["APPLIED"]
    document = await calls.document("a")
    assert (document.state, document.stage) == (PAUSED, r.STAGE_PARSING)
    assert document.HasField("pause_time")
    await calls.resume()
    document = await calls.document("a")
    assert (document.state, document.stage) == (RUNNING, r.STAGE_PARSING)
    assert document.progress == r.Progress(completed_segments=1, total_segments=2)


async def test_document_with_reports_during_a_pause_runs_after_resume(
    calls: Calls,
) -> None:
    await calls.create("a")
    await calls.pause()
    await calls.report(stage("a", r.STAGE_PARSING))
    await calls.resume()
    assert (await calls.document("a")).state == RUNNING


@pytest.mark.parametrize(
    ("report", "state"), [(stage("a", r.STAGE_COMPLETED), SUCCEEDED), (failure("a"), FAILED)]
)
async def test_paused_document_may_end(calls: Calls, report: Any, state: int) -> None:
    await calls.create("a")
    await calls.start("a")
    await calls.pause("a")
    assert await calls.outcomes(report) == ["APPLIED"]
    document = await calls.document("a")
    assert document.state == state
    assert not document.HasField("pause_time")
    assert (await calls.resume()).changed_documents == 0


async def test_stopped_document_refuses_its_worker_until_it_is_retried(calls: Calls) -> None:
    await calls.create("a")
    await calls.start("a")
    await calls.report(stage("a", r.STAGE_CLEANING))
    await calls.stop()
    for report in (stage("a", r.STAGE_INDEXING), stage("a", r.STAGE_COMPLETED), failure("a")):
        refusal = await refused(calls.report(report))
        assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
        assert refusal.reason == "ILLEGAL_TRANSITION"
        assert refusal.metadata["document_id"] == "a"
    assert await calls.outcomes(stage("a", r.STAGE_PARSING)) == ["OVERTAKEN"]
    await calls.retry()
    refusal = await refused(calls.report(stage("a", r.STAGE_INDEXING, attempt=1)))
    assert refusal.reason == "STALE_ATTEMPT"
    assert await calls.outcomes(stage("a", r.STAGE_INDEXING, attempt=2)) == ["APPLIED"]


async def test_paused_document_stays_with_its_worker_until_another_starts(calls: Calls) -> None:
    await calls.create("a")
    await calls.start("a", "w1")
    await calls.pause()
    revision = (await calls.batch()).revision
    again = await calls.start("a", "w1")
    assert (again.attempt, again.document.state) == (1, PAUSED)
    assert (await calls.batch()).revision == revision
    started = await calls.start("a", "w2")
    assert (started.attempt, started.document.state) == (2, RUNNING)
    assert not started.document.HasField("pause_time")


@pytest.mark.parametrize("worker", ["w1", "w2"])
async def test_stopped_document_starts_a_new_attempt_for_any_worker(
    calls: Calls, worker: str
) -> None:
    await calls.create("a")
    await calls.start("a", "w1")
    await calls.stop()
    started = await calls.start("a", worker)
    assert (started.attempt, started.document.state, started.document.worker) == (
        2,
        RUNNING,
        worker,
    )
    assert not started.document.HasField("stop_time")
    assert (await calls.batch()).state == r.BATCH_STATE_RUNNING


async def test_retried_document_is_pending_in_its_new_attempt(
    calls: Calls,
) -> None:
    await calls.create("a")
    await calls.start("a", "w1")
    await calls.report(failure("a"))
    await calls.retry()
    document = await calls.document("a")
    assert (document.attempt, document.worker, document.state) == (2, "", PENDING)
    assert (await calls.start("a", "w1")).attempt == 2
