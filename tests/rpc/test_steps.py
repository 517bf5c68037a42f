"""Steps within a stage, as reported, read, watched and logged."""

from __future__ import annotations

import pytest

from stagecast.config import Config
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.grpc_calls import read
from tests.rpc.calls import BATCH, Calls, contents, counters, failure, stage, step


def pages(completed: int, total: int | None = None) -> r.Step:
    return r.Step(name="pages", completed=completed, total=total)


async def test_step_is_shown_by_every_read(calls: Calls) -> None:
    await calls.create("a", "b")
    await calls.report(stage("a", r.STAGE_PARSING), step("a", "pages", 3, 10))
    expected = r.Progress(step=pages(3, 10))
    assert (await calls.document("a")).progress == expected
    [a, b] = (await calls.page()).documents
    assert (a.progress, b.progress) == (expected, r.Progress())
    await calls.stop()
    [snapshot] = await calls.watch()
    assert snapshot.snapshot.documents[0].progress == expected
    assert (await calls.history("a"))[-1].document.progress == expected
    assert not (await calls.batch()).progress.HasField("step")


async def test_step_is_replaced_whole_and_is_no_transition(calls: Calls) -> None:
    await calls.create("a")
    revision = (await calls.report(stage("a", r.STAGE_PARSING))).revision
    for reported in (pages(3, 10), pages(1), r.Step(name="tables", completed=2), pages(0, 5)):
        progress = r.Progress(step=reported)
        response = await calls.report(stage("a", r.STAGE_PARSING, progress=progress))
        assert response.revision == revision
        assert (await calls.document("a")).progress == progress


async def test_step_and_counters_leave_each_other_alone(calls: Calls) -> None:
    await calls.create("a")
    await calls.report(counters("a", 4, 9), step("a", "pages", 3), counters("a", 5))
    assert (await calls.document("a")).progress == r.Progress(
        completed_segments=5, total_segments=9, step=pages(3)
    )


async def test_outcome_of_each_kind_of_step(calls: Calls) -> None:
    await calls.create("a")
    outcomes = calls.outcomes
    await calls.report(stage("a", r.STAGE_PARSING), counters("a", 4, 9))
    assert await outcomes(step("a", "pages", 3)) == ["APPLIED"]
    assert await outcomes(step("a", "pages", 3)) == ["DUPLICATE"]
    assert await outcomes(step("a", "pages", 2)) == ["APPLIED"], "a step may go back"
    assert await outcomes(step("a", "pages", 9, stage=r.STAGE_PARSING)) == ["APPLIED"]
    assert await outcomes(step("a", "pages", 8, stage=r.STAGE_WAITING)) == ["OVERTAKEN"]
    assert await outcomes(step("a", "pages", 9, stage=r.STAGE_WAITING)) == ["OVERTAKEN"]
    assert (await calls.document("a")).progress.step == pages(9)
    await calls.report(failure("a"))
    assert await outcomes(step("a", "pages", 9)) == ["DUPLICATE"]
    assert await outcomes(step("a", "pages", 10)) == ["OVERTAKEN"]
    assert (await calls.document("a")).progress.step == pages(9), "where it failed"


async def test_step_ends_with_its_stage_and_attempt(calls: Calls) -> None:
    await calls.create("a", "b")
    await calls.report(step("a", "pages", 3), step("b", "pages", 3))
    await calls.start("a", "w1")
    assert (await calls.document("a")).progress.step == pages(3), "no stage began"
    await calls.report(stage("a", r.STAGE_PARSING))
    assert not (await calls.document("a")).progress.HasField("step")
    await calls.report(step("a", "tables", 1, stage=r.STAGE_CLEANING))
    assert (await calls.document("a")).progress.step == r.Step(name="tables", completed=1)
    await calls.start("a", "w2")
    assert not (await calls.document("a")).progress.HasField("step")
    await calls.report(step("a", "pages", 3))
    await calls.stop("a")
    assert (await calls.retry("a")).changed_documents == 1
    assert not (await calls.document("a")).progress.HasField("step")


async def test_step_already_reported_changes_nothing(calls: Calls, config: Config) -> None:
    await calls.create("a")
    await calls.report(counters("a", 4, 10), step("a", "pages", 3, 7))
    before = contents(config.db)
    assert await calls.outcomes(step("a", "pages", 3, 7)) == ["DUPLICATE"]
    assert contents(config.db) == before


@pytest.mark.parametrize("resumed", [False, True], ids=["live", "resumed"])
async def test_newest_step_is_pushed(calls: Calls, resumed: bool) -> None:
    await calls.create("a", "b")
    await calls.report(stage("a", r.STAGE_PARSING))
    request = ss.WatchBatchRequest(dataset_id=calls.dataset_id, batch_id=BATCH)
    watch = calls.client.status.WatchBatch(request, timeout=60)
    message = await read(watch)
    while not message.resume_token:
        message = await read(watch)
    if resumed:
        watch.cancel()
        request.resume_token = message.resume_token
        await calls.report(*(step("a", "pages", number, 7) for number in range(7)))
        watch = calls.client.status.WatchBatch(request, timeout=60)
    else:
        await calls.report(*(step("a", "pages", number, 7) for number in range(7)))
    [progress] = (await read(watch)).progress
    assert progress.document_id == "a"
    assert progress.progress == r.Progress(step=pages(6, 7))
    await calls.report(stage("a", r.STAGE_CLEANING))
    message = await read(watch)
    assert not message.transitions[0].document.progress.HasField("step")
    watch.cancel()
