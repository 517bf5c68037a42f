"""Report with `allow_partial`: refused reports change nothing, the others are recorded."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from stagecast.config import Config
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from tests.clock import Clock
from tests.rpc.calls import Calls, contents, counters, failure, refused, stage, step

REFUSED = rs.REPORT_OUTCOME_REFUSED

# Reports that are refused, with the reason and a part of the message; see `create_one_of_each`.
CASES: dict[str, tuple[rs.DocumentReport, str, str]] = {
    "after_failure": (
        stage("failed", r.STAGE_INDEXING),
        "ILLEGAL_TRANSITION",
        "document 'failed' has ended as FAILED in stage PARSING",
    ),
    "after_success": (failure("done"), "ILLEGAL_TRANSITION", "'done' has ended as SUCCEEDED"),
    "stale_attempt": (
        stage("taken", r.STAGE_PARSING, attempt=1),
        "STALE_ATTEMPT",
        "the current attempt is 2",
    ),
    "unknown_document": (
        stage("nope", r.STAGE_PARSING),
        "DOCUMENT_NOT_FOUND",
        "no document 'nope' in batch 'b1'",
    ),
    "future_attempt": (
        stage("open", r.STAGE_PARSING, attempt=2),
        "FIELD_INVALID",
        "attempt: 2 has not started; the current attempt is 1",
    ),
    "negative_attempt": (
        stage("open", r.STAGE_PARSING, attempt=-1),
        "FIELD_INVALID",
        "attempt: must be 0 or more",
    ),
    "unknown_stage": (
        rs.DocumentReport(document_id="open", stage=99),  # type: ignore[arg-type]  # on purpose
        "FIELD_INVALID",
        "stage: unknown enum value 99",
    ),
    "bad_progress": (
        counters("open", 3, 2),
        "FIELD_INVALID",
        "progress.completed_segments: 3 is more than the total of 2",
    ),
    "bad_step": (
        step("open", "pages", 3, 2),
        "FIELD_INVALID",
        "progress.step.completed: 3 is more than the total of 2",
    ),
    "nothing": (
        rs.DocumentReport(document_id="open"),
        "FIELD_INVALID",
        "must have a stage, progress or an error",
    ),
    "no_id": (
        stage("", r.STAGE_PARSING),
        "FIELD_INVALID",
        "document_id: must have 1 to 256 characters, has 0",
    ),
}
cases = pytest.mark.parametrize(("report", "reason", "message"), CASES.values(), ids=CASES)


async def create_one_of_each(calls: Calls) -> None:
    await calls.create("open", "failed", "done", "taken")
    await calls.report(
        stage("failed", r.STAGE_PARSING), failure("failed"), stage("done", r.STAGE_COMPLETED)
    )
    await calls.start("taken", "w1")
    await calls.start("taken", "w2")


async def report(calls: Calls, *reports: rs.DocumentReport) -> rs.ReportResponse:
    return await calls.report(*reports, allow_partial=True)


@cases
async def test_refused_report_changes_nothing_and_says_why(
    calls: Calls, config: Config, report: rs.DocumentReport, reason: str, message: str
) -> None:
    await create_one_of_each(calls)
    revision, before = (await calls.batch()).revision, contents(config.db)
    response = await calls.report(report, allow_partial=True)
    assert response.revision == revision
    [result] = response.results
    assert (result.outcome, result.refusal.reason) == (REFUSED, reason)
    assert message in result.refusal.message
    assert not result.refusal.message.startswith(("reports[", ":")), "its place is known"
    assert contents(config.db) == before


@cases
async def test_other_reports_are_recorded_in_one_transaction(
    calls: Calls, report: rs.DocumentReport, reason: str, message: str
) -> None:
    await create_one_of_each(calls)
    token = await calls.token()
    response = await calls.report(
        stage("open", r.STAGE_PARSING),
        report,
        stage("taken", r.STAGE_PARSING),
        counters("open", 1, 2),
        stage("open", r.STAGE_COMPLETED),
        allow_partial=True,
    )
    names = [rs.ReportOutcome.Name(result.outcome)[15:] for result in response.results]
    assert names == ["APPLIED", "REFUSED", "APPLIED", "APPLIED", "APPLIED"]
    assert [result.HasField("refusal") for result in response.results].index(True) == 1
    moved = await calls.since(token)
    assert [(one.document.document_id, one.document.stage) for one in moved] == [
        ("open", r.STAGE_PARSING),
        ("taken", r.STAGE_PARSING),
        ("open", r.STAGE_COMPLETED),
    ]
    assert response.revision == moved[-1].revision
    assert (await calls.document("open")).progress == r.Progress(
        completed_segments=1, total_segments=2
    )


@pytest.mark.parametrize(("report", "reason"), [case[:2] for case in CASES.values()], ids=CASES)
async def test_reason_is_the_one_of_the_report_alone(
    calls: Calls, report: rs.DocumentReport, reason: str
) -> None:
    await create_one_of_each(calls)
    assert (await refused(calls.report(report))).reason == reason


async def test_results_have_the_order_of_the_reports(calls: Calls) -> None:
    await create_one_of_each(calls)
    reports = [case[0] for case in CASES.values()]
    response = await report(calls, *reports)
    assert {result.outcome for result in response.results} == {REFUSED}
    assert [result.document_id for result in response.results] == [
        each.document_id for each in reports
    ]
    current = {each: (await calls.document(each)).revision for each in ("open", "failed", "taken")}
    revisions = {result.document_id: result.revision for result in response.results}
    assert revisions.items() >= current.items(), "of the last transition"
    assert (revisions["nope"], revisions[""]) == (0, 0)


async def test_same_document_can_be_refused_and_recorded(calls: Calls) -> None:
    await calls.create("a", "b")
    response = await report(
        calls,
        stage("a", r.STAGE_COMPLETED),
        failure("a"),
        stage("a", r.STAGE_COMPLETED),
        stage("a", r.STAGE_PARSING, attempt=2),
    )
    names = [rs.ReportOutcome.Name(result.outcome)[15:] for result in response.results]
    assert names == ["APPLIED", "REFUSED", "DUPLICATE", "REFUSED"]
    assert {result.revision for result in response.results} == {5}
    assert response.revision == 5


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"dataset_id": "x"}, "dataset_id"),
        ({"batch_id": ".."}, "batch_id"),
        ({"reports": []}, "reports"),
        ({"reports": [stage("a", r.STAGE_PARSING)] * 1_001}, "reports"),
    ],
)
async def test_fault_of_the_request_refuses_the_call(
    calls: Calls, config: Config, fields: dict[str, Any], field: str
) -> None:
    await calls.create("a")
    before = contents(config.db)
    call = calls.report(
        **{"reports": [stage("a", r.STAGE_PARSING)], "allow_partial": True} | fields
    )
    refusal = await refused(call)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(refusal.fields) == [field]
    assert contents(config.db) == before


async def test_unknown_batch_refuses_the_call(calls: Calls) -> None:
    refusal = await refused(report(calls, stage("a", r.STAGE_PARSING)))
    assert refusal.reason == "BATCH_NOT_FOUND"


async def test_thousand_refusals_fit_a_message(calls: Calls) -> None:
    """A client accepts 4 MiB; ids and messages are as long as they can be."""
    registered, reported = "e\u0301" + "🗎" * 254, "\u00e9" + "🗎" * 254
    await calls.create(registered, batch_id="b" * 128)
    reports = [stage(reported, r.STAGE_PARSING)] * 1_000
    response = await calls.report(*reports, batch_id="b" * 128, allow_partial=True)
    [refusal] = {result.refusal.SerializeToString() for result in response.results}
    assert registered in refusal.decode(errors="replace"), "the message has both ids"
    assert response.ByteSize() < 3.5 * (1 << 20)


# Signs of life.


@pytest.mark.parametrize("second", ["refused", "accepted"])
async def test_refused_report_is_no_sign_of_life(
    calls: Calls, clock: Clock, config: Config, second: str
) -> None:
    await calls.create("a")
    await calls.start("a", "w1")
    await calls.start("a", "w2")
    before = contents(config.db)["documents"]
    clock.advance(60)
    attempt = {"refused": 1, "accepted": 2}[second]
    await report(calls, stage("a", r.STAGE_WAITING, attempt=attempt))
    assert (contents(config.db)["documents"] == before) == (second == "refused")
