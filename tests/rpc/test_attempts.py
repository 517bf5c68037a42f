"""StartAttempt, and the times of documents, batches and datasets."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from stagecast.config import Config
from stagecast.v1 import resources_pb2 as r
from tests.clock import Clock
from tests.rpc.calls import (
    BATCH,
    Calls,
    contents,
    counters,
    failure,
    moment,
    refusal_of,
    refused,
    stage,
)


async def test_start_assigns_the_document_to_the_worker(calls: Calls, clock: Clock) -> None:
    await calls.create("a")
    clock.advance(3)
    response = await calls.start("a", "worker 7")
    document = response.document
    assert response.attempt == document.attempt == 1
    assert document.state == r.DOCUMENT_STATE_RUNNING
    assert document.stage == r.STAGE_WAITING
    assert document.worker == "worker 7"
    assert document.processing_start_time == moment(clock.now_us)
    assert document == await calls.document("a")
    assert (await calls.batch()).state == r.BATCH_STATE_RUNNING


async def test_same_worker_again_gets_the_same_answer(calls: Calls, config: Config) -> None:
    await calls.create("a")
    first = await calls.start("a")
    before = contents(config.db)
    assert await calls.start("a") == first
    assert contents(config.db) == before


async def test_same_worker_again_gets_its_progress(calls: Calls, config: Config) -> None:
    await calls.create("a")
    await calls.start("a")
    await calls.report(stage("a", r.STAGE_INDEXING), counters("a", 5, 9))
    before = contents(config.db)
    again = await calls.start("a")
    assert again.attempt == 1
    assert again.document.stage == r.STAGE_INDEXING
    assert again.document.progress.completed_segments == 5
    assert contents(config.db) == before


async def test_another_worker_takes_the_document_over(calls: Calls, clock: Clock) -> None:
    await calls.create("a")
    await calls.start("a", "w1")
    await calls.report(stage("a", r.STAGE_INDEXING), counters("a", 5, 9))
    token = await calls.token()
    clock.advance(30)
    response = await calls.start("a", "w2")
    assert response.attempt == 2
    document = response.document
    assert document.state == r.DOCUMENT_STATE_RUNNING
    assert document.stage == r.STAGE_WAITING
    assert document.worker == "w2"
    assert document.progress == r.Progress()
    assert document.processing_start_time == moment(clock.now_us)
    assert not document.HasField("parsing_complete_time")
    [transition] = await calls.since(token)
    assert transition.kind == r.TRANSITION_KIND_STARTED
    assert transition.previous_state == r.DOCUMENT_STATE_RUNNING
    assert transition.previous_stage == r.STAGE_INDEXING
    assert (await calls.batch()).progress.completed_segments == 0


@pytest.mark.parametrize("worker", ["w1", "w2"], ids=["same_worker", "other_worker"])
async def test_start_after_the_end_begins_another_attempt(calls: Calls, worker: str) -> None:
    await calls.create("a")
    await calls.start("a", "w1")
    await calls.report(stage("a", r.STAGE_SPLITTING), failure("a"))
    assert (await calls.batch()).state == r.BATCH_STATE_FAILED
    response = await calls.start("a", worker)
    assert response.attempt == 2
    assert response.document.worker == worker
    assert response.document.state == r.DOCUMENT_STATE_RUNNING
    assert not response.document.HasField("error")
    assert not response.document.HasField("stop_time")
    batch = await calls.batch()
    assert batch.state == r.BATCH_STATE_RUNNING
    assert not batch.HasField("end_time"), "it is open again"
    assert (await calls.start("a", worker)).attempt == 2, "only the first call begins one"


async def test_first_reported_stage_starts_an_unassigned_document(
    calls: Calls, clock: Clock
) -> None:
    await calls.create("a")
    clock.advance(4)
    await calls.report(stage("a", r.STAGE_CLEANING))
    document = await calls.document("a")
    assert document.worker == ""
    assert document.attempt == 1
    assert document.processing_start_time == moment(clock.now_us)
    assert document.parsing_complete_time == moment(clock.now_us), "it was skipped"
    assert not document.HasField("cleaning_complete_time")


async def test_two_workers_at_once_have_an_attempt_each(calls: Calls) -> None:
    await calls.create("a")
    one, two = await asyncio.gather(calls.start("a", "w1"), calls.start("a", "w2"))
    assert {one.attempt, two.attempt} == {1, 2}
    document = await calls.document("a")
    assert document.attempt == 2
    assert document.worker == ("w1" if one.attempt == 2 else "w2")


async def test_start_of_an_unknown_document_is_refused(calls: Calls) -> None:
    await calls.create("a")
    refusal = await refused(calls.start("nope"))
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert refusal.reason == "DOCUMENT_NOT_FOUND"
    assert refusal.metadata == {
        "dataset_id": calls.dataset_id,
        "batch_id": BATCH,
        "document_id": "nope",
    }


async def test_times_are_those_of_the_servers_clock(calls: Calls, clock: Clock) -> None:
    await calls.create("a")
    created = moment(clock.now_us)
    left = {}
    for reached in range(r.STAGE_PARSING, r.STAGE_COMPLETED + 1):
        clock.advance(1.5)
        await calls.report(stage("a", r.Stage.ValueType(reached)))
        left[reached] = moment(clock.now_us)
    document = await calls.document("a")
    assert document.create_time == created
    assert document.processing_start_time == left[r.STAGE_PARSING]
    assert document.parsing_complete_time == left[r.STAGE_CLEANING]
    assert document.cleaning_complete_time == left[r.STAGE_SPLITTING]
    assert document.splitting_complete_time == left[r.STAGE_INDEXING]
    assert document.complete_time == document.update_time == left[r.STAGE_COMPLETED]
    assert not document.HasField("stop_time")
    batch = await calls.batch()
    assert batch.create_time == created
    assert batch.update_time == batch.end_time == left[r.STAGE_COMPLETED]
    assert (await calls.dataset()).update_time == left[r.STAGE_COMPLETED]


async def test_failure_sets_the_stop_time(calls: Calls, clock: Clock) -> None:
    await calls.create("a")
    clock.advance(9)
    await calls.report(failure("a"))
    document = await calls.document("a")
    assert document.stop_time == moment(clock.now_us)
    assert not document.HasField("complete_time")


async def test_times_never_fall_within_a_batch_when_the_clock_jumps_back(
    calls: Calls, clock: Clock
) -> None:
    await calls.create("a", more_documents_follow=True)
    token = await calls.token()
    latest = clock.now_us
    clock.advance(-3_600)
    await calls.report(stage("a", r.STAGE_PARSING))
    await calls.start("a")
    await calls.add("b")
    clock.advance(1_800)
    await calls.seal()
    clock.advance(3_600)
    await calls.report(stage("a", r.STAGE_COMPLETED), failure("b"))
    transitions = await calls.since(token)
    assert [transition.commit_time for transition in transitions] == [moment(latest)] * 4 + [
        moment(clock.now_us)
    ] * 2
    added = await calls.document("b")
    assert added.create_time == moment(latest)
    assert added.stop_time == moment(clock.now_us)
    document = await calls.document("a")
    assert document.processing_start_time == moment(latest)


async def test_dataset_update_time_never_falls_when_the_clock_jumps_back(
    calls: Calls, clock: Clock
) -> None:
    await calls.create("a", batch_id="first")
    latest = clock.now_us
    clock.advance(-3_600)
    second = (await calls.create("a", batch_id="second")).batch
    assert second.create_time == moment(clock.now_us), "another batch"
    assert (await calls.dataset()).update_time == moment(latest)


async def test_event_time_is_shown_and_changes_no_other_time(calls: Calls, clock: Clock) -> None:
    await calls.create("a", "b")
    token = await calls.token()
    reported = moment(123_456_789)
    await calls.report(
        stage("a", r.STAGE_PARSING, event_time=reported), stage("b", r.STAGE_PARSING)
    )
    first, second = await calls.since(token)
    assert first.event_time == reported
    assert first.commit_time == moment(clock.now_us)
    assert first.document.processing_start_time == moment(clock.now_us)
    assert not second.HasField("event_time")


async def test_counters_alone_do_not_move_the_update_time(calls: Calls, clock: Clock) -> None:
    await calls.create("a")
    created = moment(clock.now_us)
    clock.advance(10)
    await calls.report(counters("a", 1, 2))
    assert (await calls.document("a")).update_time == created
    assert (await calls.batch()).update_time == created


# Only if it is pending.


@pytest.fixture
async def shared(calls: Calls) -> Calls:
    """Calls on a batch with a document in each situation; `w1` has those that were started."""
    await calls.create("pending", "running", "ended", "failed", "held", "untaken", "unstarted")
    for document_id in ("running", "ended", "failed", "held"):
        await calls.start(document_id, "w1")
    await calls.report(
        stage("ended", r.STAGE_COMPLETED), failure("failed"), stage("unstarted", r.STAGE_PARSING)
    )
    await calls.pause("held")
    await calls.pause("untaken")
    return calls


NOT_PENDING = {
    "running": ("w2", "document 'running' is taken by worker 'w1': it is RUNNING"),
    "held": ("w2", "document 'held' is taken by worker 'w1': it is PAUSED"),
    "untaken": ("w2", "document 'untaken' is taken: it is PAUSED"),
    "unstarted": ("w2", "document 'unstarted' is taken: it is RUNNING"),
    "ended": ("w1", "document 'ended' is taken by worker 'w1': it has ended as SUCCEEDED"),
    "failed": ("w1", "document 'failed' is taken by worker 'w1': it has ended as FAILED"),
}


@pytest.mark.parametrize("document_id", NOT_PENDING)
async def test_taken_document_is_refused(shared: Calls, config: Config, document_id: str) -> None:
    worker, message = NOT_PENDING[document_id]
    before = contents(config.db)
    refusal = await refused(shared.start(document_id, worker, only_if_pending=True))
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert (refusal.reason, refusal.message) == ("DOCUMENT_TAKEN", message)
    assert refusal.metadata == {
        "dataset_id": shared.dataset_id,
        "batch_id": BATCH,
        "document_id": document_id,
        "state": refusal.message.rsplit(" ", 1)[1],
        "attempt": "1",
    }
    assert contents(config.db) == before


@pytest.mark.parametrize("document_id", NOT_PENDING)
async def test_taken_document_can_be_taken_over_without_the_condition(
    shared: Calls, document_id: str
) -> None:
    assert (await shared.start(document_id, "w2")).attempt == 2


@pytest.mark.parametrize("document_id", ["running", "held"])
async def test_worker_that_has_the_document_gets_the_same_answer(
    shared: Calls, document_id: str
) -> None:
    before = await shared.document(document_id)
    again = await shared.start(document_id, "w1", only_if_pending=True)
    assert (again.attempt, again.document) == (1, before)


async def test_pending_document_is_taken_once_among_many_workers(shared: Calls) -> None:
    async def take(worker: str) -> str:
        try:
            return (await shared.start("pending", worker, only_if_pending=True)).document.worker
        except grpc.aio.AioRpcError as error:
            return refusal_of(error).reason

    workers = await asyncio.gather(*(take(f"w{number}") for number in range(32)))
    [worker] = [each for each in workers if each != "DOCUMENT_TAKEN"]
    document = await shared.document("pending")
    assert (document.worker, document.attempt) == (worker, 1)


async def test_retried_document_is_pending_again(shared: Calls) -> None:
    await shared.retry("failed")
    assert (await shared.start("failed", "w2", only_if_pending=True)).attempt == 2
