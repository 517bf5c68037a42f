"""Report: outcomes, refusals, concurrent calls."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from stagecast.config import Config
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from stagecast.wire import report_requests
from tests.rpc.calls import BATCH, Calls, contents, counters, failure, refused, stage


async def test_stages_lead_to_success(calls: Calls) -> None:
    await calls.create("a")
    for reached in range(r.STAGE_PARSING, r.STAGE_COMPLETED):
        assert await calls.outcomes(stage("a", r.Stage.ValueType(reached))) == ["APPLIED"]
        assert (await calls.document("a")).state == r.DOCUMENT_STATE_RUNNING
    assert await calls.outcomes(stage("a", r.STAGE_COMPLETED)) == ["APPLIED"]
    document = await calls.document("a")
    assert document.state == r.DOCUMENT_STATE_SUCCEEDED
    assert document.stage == r.STAGE_COMPLETED
    assert (await calls.batch()).state == r.BATCH_STATE_SUCCEEDED


async def test_error_fails_the_document_in_the_stage_that_the_report_names(calls: Calls) -> None:
    await calls.create("a", "b")
    error = r.DocumentError(reason="DECODE_ERROR", message="line 1\nline 2 ¶ \x00 end")
    await calls.report(
        stage("a", r.STAGE_SPLITTING, error=error),
        rs.DocumentReport(document_id="b", error=error),
    )
    document = await calls.document("a")
    assert document.state == r.DOCUMENT_STATE_FAILED
    assert document.stage == r.STAGE_SPLITTING
    assert document.error == error
    assert (await calls.document("b")).stage == r.STAGE_WAITING
    assert (await calls.batch()).state == r.BATCH_STATE_FAILED


async def test_many_reports_on_one_document_are_applied_in_their_order(calls: Calls) -> None:
    await calls.create("a", "b")
    token = await calls.token()
    response = await calls.report(
        stage("a", r.STAGE_PARSING),
        stage("b", r.STAGE_PARSING),
        stage("a", r.STAGE_INDEXING),
        counters("a", 3, 10),
        stage("a", r.STAGE_CLEANING),
        counters("a", 10),
        stage("a", r.STAGE_COMPLETED),
        stage("a", r.STAGE_COMPLETED),
    )
    assert [
        (result.document_id, rs.ReportOutcome.Name(result.outcome)[15:], result.revision)
        for result in response.results
    ] == [
        ("a", "APPLIED", 5),
        ("b", "APPLIED", 6),
        ("a", "APPLIED", 7),
        ("a", "APPLIED", 7),
        ("a", "OVERTAKEN", 7),
        ("a", "APPLIED", 7),
        ("a", "APPLIED", 8),
        ("a", "DUPLICATE", 8),
    ]
    assert response.revision == 8
    assert [
        (transition.document.document_id, transition.document.stage)
        for transition in await calls.since(token)
    ] == [
        ("a", r.STAGE_PARSING),
        ("b", r.STAGE_PARSING),
        ("a", r.STAGE_INDEXING),
        ("a", r.STAGE_COMPLETED),
    ]
    assert (await calls.document("a")).progress == r.Progress(
        completed_segments=10, total_segments=10
    )


async def test_outcome_of_each_kind_of_report(calls: Calls) -> None:
    await calls.create("a", "b")
    outcomes = calls.outcomes
    assert await outcomes(stage("a", r.STAGE_WAITING)) == ["DUPLICATE"]
    assert await outcomes(stage("a", r.STAGE_SPLITTING)) == ["APPLIED"]
    assert await outcomes(stage("a", r.STAGE_SPLITTING)) == ["DUPLICATE"]
    assert await outcomes(stage("a", r.STAGE_PARSING)) == ["OVERTAKEN"]
    assert await outcomes(counters("a", 4, 10)) == ["APPLIED"]
    assert await outcomes(counters("a", 4, 10)) == ["DUPLICATE"]
    assert await outcomes(counters("a", 4)) == ["DUPLICATE"]
    assert await outcomes(counters("a", 3)) == ["OVERTAKEN"]
    assert await outcomes(failure("a")) == ["APPLIED"]
    assert await outcomes(failure("a")) == ["DUPLICATE"]
    assert await outcomes(stage("a", r.STAGE_PARSING)) == ["OVERTAKEN"]
    assert await outcomes(stage("b", r.STAGE_COMPLETED)) == ["APPLIED"]
    assert await outcomes(stage("b", r.STAGE_COMPLETED)) == ["DUPLICATE"]
    assert await outcomes(stage("b", r.STAGE_INDEXING)) == ["OVERTAKEN"]


async def test_reports_not_applied_change_nothing(calls: Calls, config: Config) -> None:
    await calls.create("a")
    await calls.report(stage("a", r.STAGE_SPLITTING), counters("a", 4, 10))
    before = contents(config.db)
    assert await calls.outcomes(
        stage("a", r.STAGE_SPLITTING), stage("a", r.STAGE_PARSING), counters("a", 3)
    ) == ["DUPLICATE", "OVERTAKEN", "OVERTAKEN"]
    assert contents(config.db) == before


async def test_counters_move_without_a_transition(calls: Calls) -> None:
    await calls.create("a", "b")
    before = await calls.batch()
    response = await calls.report(counters("a", 4, 10))
    assert response.revision == before.revision
    assert response.results[0].revision == 2
    batch = await calls.batch()
    assert batch.revision == before.revision
    assert not batch.progress.HasField("total_segments"), "that of b is unknown"
    await calls.report(counters("b", 1, 5))
    assert (await calls.batch()).progress == r.Progress(completed_segments=5, total_segments=15)


REFUSED = {
    "stage_after_failure": (stage("failed", r.STAGE_INDEXING), "ILLEGAL_TRANSITION"),
    "success_after_failure": (stage("failed", r.STAGE_COMPLETED), "ILLEGAL_TRANSITION"),
    "other_error_after_failure": (failure("failed", "OTHER"), "ILLEGAL_TRANSITION"),
    "error_after_success": (failure("done"), "ILLEGAL_TRANSITION"),
    "stale_attempt": (stage("taken", r.STAGE_PARSING, attempt=1), "STALE_ATTEMPT"),
    "stale_error": (failure("taken", attempt=1), "STALE_ATTEMPT"),
}


async def _create_one_of_each(calls: Calls) -> None:
    await calls.create("open", "failed", "done", "taken")
    await calls.report(
        stage("failed", r.STAGE_PARSING), failure("failed"), stage("done", r.STAGE_COMPLETED)
    )
    await calls.start("taken", "w1")
    await calls.start("taken", "w2")


@pytest.mark.parametrize(("report", "reason"), REFUSED.values(), ids=REFUSED.keys())
async def test_refused_report_rolls_back_its_whole_call(
    calls: Calls, config: Config, report: rs.DocumentReport, reason: str
) -> None:
    await _create_one_of_each(calls)
    before = contents(config.db)
    call = calls.report(
        stage("open", r.STAGE_PARSING),
        counters("open", 1, 2),
        report,
        stage("open", r.STAGE_COMPLETED),
    )
    refusal = await refused(call)
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.reason == reason
    assert refusal.metadata["index"] == "2"
    assert refusal.metadata["document_id"] == report.document_id
    assert "reports[2]" in refusal.message
    assert repr(report.document_id) in refusal.message
    assert contents(config.db) == before


@pytest.mark.parametrize(("report", "reason"), REFUSED.values(), ids=REFUSED.keys())
async def test_refusal_of_a_report_has_all_ids(
    calls: Calls, report: rs.DocumentReport, reason: str
) -> None:
    await _create_one_of_each(calls)
    refusal = await refused(calls.report(report))
    assert refusal.reason == reason
    ids = {"dataset_id": calls.dataset_id, "batch_id": BATCH, "document_id": report.document_id}
    assert refusal.metadata.items() >= ids.items()


async def test_error_names_the_first_refused_report(calls: Calls) -> None:
    await _create_one_of_each(calls)
    refusal = await refused(calls.report(failure("done"), stage("failed", r.STAGE_INDEXING)))
    assert (refusal.metadata["index"], refusal.metadata["document_id"]) == ("0", "done")


async def test_unknown_document_is_named_and_rolls_back_the_call(
    calls: Calls, config: Config
) -> None:
    await calls.create("a")
    before = contents(config.db)
    refusal = await refused(
        calls.report(stage("a", r.STAGE_PARSING), stage("nope", r.STAGE_PARSING))
    )
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert refusal.reason == "DOCUMENT_NOT_FOUND"
    assert refusal.metadata == {
        "dataset_id": calls.dataset_id,
        "batch_id": BATCH,
        "document_id": "nope",
        "index": "1",
    }
    assert contents(config.db) == before


async def test_future_attempt_is_an_invalid_field(calls: Calls, config: Config) -> None:
    await calls.create("a")
    before = contents(config.db)
    refusal = await refused(
        calls.report(stage("a", r.STAGE_PARSING), stage("a", r.STAGE_PARSING, attempt=2))
    )
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.reason == "FIELD_INVALID"
    assert list(refusal.fields) == ["reports[1].attempt"]
    assert refusal.metadata["index"] == "1"
    assert refusal.metadata["document_id"] == "a"
    assert contents(config.db) == before


async def test_more_completed_segments_than_the_total_raise_it(calls: Calls) -> None:
    await calls.create("a")
    await calls.report(counters("a", 1, 10))
    await calls.report(stage("a", r.STAGE_PARSING), counters("a", 11))
    progress = (await calls.document("a")).progress
    assert (progress.completed_segments, progress.total_segments) == (11, 11)


async def test_replaced_worker_gets_stale_attempt(calls: Calls) -> None:
    await calls.create("a")
    first = await calls.start("a", "w1")
    await calls.report(stage("a", r.STAGE_INDEXING, attempt=first.attempt))
    second = await calls.start("a", "w2")
    refusal = await refused(calls.report(stage("a", r.STAGE_COMPLETED, attempt=first.attempt)))
    assert refusal.reason == "STALE_ATTEMPT"
    assert refusal.metadata["attempt"] == "2", "the current one"
    await calls.report(stage("a", r.STAGE_COMPLETED, attempt=second.attempt))
    refusal = await refused(calls.report(stage("a", r.STAGE_COMPLETED, attempt=first.attempt)))
    assert refusal.reason == "STALE_ATTEMPT", "also after the end"


async def test_thousand_reports_are_one_call(calls: Calls) -> None:
    ids = [f"doc-{number}" for number in range(1_000)]
    await calls.create(*ids)
    token = await calls.token()
    response = await calls.report(*(stage(each, r.STAGE_COMPLETED) for each in ids))
    assert [result.document_id for result in response.results] == ids
    assert [result.revision for result in response.results] == list(range(1_003, 2_003))
    assert response.revision == 2_002
    done = await calls.since(token)
    assert [transition.document.document_id for transition in done] == ids
    assert (await calls.batch()).state == r.BATCH_STATE_SUCCEEDED


async def test_refused_calls_do_not_affect_calls_in_the_same_commit(
    calls: Calls, config: Config
) -> None:
    ids = [f"doc-{number}" for number in range(64)]
    await calls.create("done", *ids)
    await calls.report(stage("done", r.STAGE_COMPLETED))
    token = await calls.token()

    async def work(number: int) -> str:
        reports = [stage(ids[number], r.STAGE_PARSING), counters(ids[number], 1, 2)]
        if number % 4 == 0:
            reports.append(failure("done"))
        try:
            return (await calls.outcomes(*reports))[0]
        except grpc.aio.AioRpcError as error:
            return error.code().name

    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(work(number) for number in range(64)))
    assert answers == ["FAILED_PRECONDITION", "APPLIED", "APPLIED", "APPLIED"] * 16
    moved = [transition.document.document_id for transition in await calls.since(token)]
    assert sorted(moved) == sorted(each for number, each in enumerate(ids) if number % 4)
    batch = await calls.batch()
    assert batch.counts == r.DocumentCounts(total=65, pending=16, running=48, succeeded=1)
    assert batch.progress.completed_segments == 48
    assert len(contents(config.db)["transitions"]) == batch.revision


async def test_concurrent_reports_on_one_document_end_it_once(calls: Calls) -> None:
    await calls.create("a")
    token = await calls.token()
    answers = await asyncio.gather(
        *(calls.outcomes(stage("a", r.STAGE_COMPLETED)) for _ in range(64))
    )
    assert sorted(answers) == [["APPLIED"]] + [["DUPLICATE"]] * 63
    assert len(await calls.since(token)) == 1


async def test_highest_counters_of_very_many_documents_add_up(calls: Calls) -> None:
    """The sum of the highest allowed counters still has to fit."""
    ids = [f"doc-{number}" for number in range(2_000)]
    await calls.create(*ids)
    limit = report_requests._MAX_SEGMENTS
    for first in (0, 1_000):
        chosen = ids[first : first + 1_000]
        await calls.report(*(counters(each, limit, limit) for each in chosen))
    assert (await calls.batch()).progress.total_segments == 2_000 * limit
