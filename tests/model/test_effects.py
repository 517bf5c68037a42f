"""What a move changes in a document: its times, attempt, counters and step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from stagecast.errors import FieldInvalid, IllegalTransition, StaleAttempt
from stagecast.model import (
    Change,
    Document,
    DocumentState,
    Progress,
    Report,
    ReportOutcome,
    Stage,
    Step,
    apply_report,
    lose,
    pause,
    recover,
    register,
    resume,
    retry,
    stall,
    start_attempt,
    stop,
)
from tests.builders import ERROR, NOW, document, document_in
from tests.model.situations import (
    APPLIED,
    COUNTED,
    DUPLICATE,
    FAILED,
    FEWER,
    MORE,
    OVERTAKEN,
    PAGES,
    PAUSED,
    PENDING,
    RUNNING,
    STOPPED,
    TABLES,
    Kind,
    news,
    situation,
)

TIMES = (
    "processing_started_at",
    "parsing_completed_at",
    "cleaning_completed_at",
    "splitting_completed_at",
    "completed_at",
    "paused_at",
    "stopped_at",
)
ACCEPTED, PARSED, CLEANED, SPLIT, COMPLETED_AT, PAUSED_AT, STOPPED_AT = TIMES


def times_of(actual: Document) -> dict[str, int]:
    times = {name: getattr(actual, name) for name in TIMES}
    return {name: time for name, time in times.items() if time is not None}


def test_registered_document_is_pending_at_attempt_1() -> None:
    made = register(
        dataset_id="d",
        batch_id="b",
        document_id="path/to ö.pdf",
        position=3,
        display_name="Ö",
        labels={"k": "v"},
        now=NOW,
    )
    assert (made.state, made.stage, made.attempt) == (PENDING, Stage.WAITING, 1)
    assert (made.document_id, made.position, made.display_name) == ("path/to ö.pdf", 3, "Ö")
    assert (made.labels, made.created_at, made.worker) == ({"k": "v"}, NOW, "")
    assert (made.progress, made.error, made.stalled) == (Progress(), None, False)
    assert times_of(made) == {}


# Times.


@pytest.mark.parametrize(
    ("stage", "passed"),
    [
        ("P", [ACCEPTED]),
        ("C", [ACCEPTED, PARSED]),
        ("S", [ACCEPTED, PARSED, CLEANED]),
        ("I", [ACCEPTED, PARSED, CLEANED, SPLIT]),
        ("D", [ACCEPTED, PARSED, CLEANED, SPLIT, COMPLETED_AT]),
        ("eP", [ACCEPTED, STOPPED_AT]),
        ("eC", [ACCEPTED, PARSED, STOPPED_AT]),
        ("eI", [ACCEPTED, PARSED, CLEANED, SPLIT, STOPPED_AT]),
        ("e", [STOPPED_AT]),
        (">", []),
    ],
)
def test_skipped_stages_get_the_time_of_the_later_one(stage: str, passed: list[str]) -> None:
    after = apply_report(document(), news(stage), now=NOW).document
    assert times_of(after) == dict.fromkeys(passed, NOW)


def test_time_of_an_earlier_stage_stays() -> None:
    splitting = document_in(RUNNING, Stage.SPLITTING)
    assert times_of(splitting) == {ACCEPTED: 2_000, PARSED: 3_000, CLEANED: 4_000}
    after = apply_report(splitting, news("D"), now=NOW).document
    assert times_of(after) == {
        **times_of(splitting),
        SPLIT: NOW,
        COMPLETED_AT: NOW,
    }


@pytest.mark.parametrize("state", [PENDING, RUNNING])
def test_pause_sets_its_time_and_resume_clears_it(state: DocumentState) -> None:
    before = document_in(state)
    held = pause(before, now=NOW).document
    assert times_of(held) == {**times_of(before), PAUSED_AT: NOW}
    assert resume(held).document == before


def test_stage_entered_while_paused_starts_and_stays_paused() -> None:
    untaken = situation("UNTAKEN", "W")
    moved = apply_report(untaken, news("P"), now=NOW).document
    assert times_of(moved) == {ACCEPTED: NOW, PAUSED_AT: 9_000}
    assert resume(moved).document.state is RUNNING


@pytest.mark.parametrize(("column", "ended"), [("D", COMPLETED_AT), ("e", STOPPED_AT)])
def test_end_clears_the_time_of_the_pause(column: str, ended: str) -> None:
    paused = situation("PAUSED", "I")
    after = apply_report(paused, news(column), now=NOW).document
    assert times_of(after).keys() == {ACCEPTED, PARSED, CLEANED, SPLIT, ended}


@pytest.mark.parametrize("start", [("PENDING", "W"), ("STALLED", "P"), ("PAUSED", "P")])
def test_stop_sets_its_time_and_clears_the_pause(start: tuple[str, str]) -> None:
    before = situation(*start)
    after = stop(before, now=NOW).document
    remaining = {name: time for name, time in times_of(before).items() if name != PAUSED_AT}
    assert times_of(after) == {**remaining, STOPPED_AT: NOW}
    assert (after.error, after.stalled, after.progress) == (None, False, before.progress)


def test_lost_document_fails_in_its_stage_with_worker_lost() -> None:
    after = lose(situation("STALLED", "C"), now=NOW).document
    assert after.error is not None
    assert after.error.reason == "WORKER_LOST"
    assert times_of(after) == {ACCEPTED: 2_000, PARSED: 3_000, STOPPED_AT: NOW}


def test_stalling_changes_only_the_flag() -> None:
    running, stalled = situation("RUNNING", "C"), situation("STALLED", "C")
    assert stall(running).document == stalled
    assert recover(stalled).document == running
    assert stall(situation("PENDING", "W")).document == situation("OVERDUE", "W")


def test_start_sets_worker_and_start_time() -> None:
    after = start_attempt(document(progress=MORE), "w1", now=NOW).document
    assert (after.worker, times_of(after)) == ("w1", {ACCEPTED: NOW})
    assert after.progress == MORE  # no new attempt


# Attempts.


@pytest.mark.parametrize(
    ("attempt", "refusal"), [(1, StaleAttempt), (2, StaleAttempt), (4, FieldInvalid)]
)
@pytest.mark.parametrize("column", ["P", "D", "e", ">", "="])
@pytest.mark.parametrize("state", [PENDING, RUNNING, PAUSED, FAILED, STOPPED])
def test_report_of_another_attempt_is_refused(
    attempt: int, refusal: type[Exception], column: str, state: DocumentState
) -> None:
    before = document_in(state, attempt=3)
    with pytest.raises(refusal):
        apply_report(before, replace(news(column), attempt=attempt), now=NOW)


@pytest.mark.parametrize("attempt", [0, 3])
def test_report_without_attempt_means_the_current_one(attempt: int) -> None:
    before = document_in(RUNNING, attempt=3)
    change = apply_report(before, replace(news("P"), attempt=attempt), now=NOW)
    assert (change.outcome, change.document.stage) == (APPLIED, Stage.PARSING)


def test_stale_attempt_error_has_the_current_attempt() -> None:
    with pytest.raises(StaleAttempt) as refusal:
        apply_report(document(attempt=3), replace(news("P"), attempt=1), now=NOW)
    assert refusal.value.metadata["attempt"] == "3"


@pytest.mark.parametrize("start", [("SUCCEEDED", "D"), ("FAILED", "I"), ("STOPPED", "S")])
def test_retry_resets_everything_of_the_old_attempt(start: tuple[str, str]) -> None:
    before = replace(situation(*start), labels={"k": "v"}, display_name="n")
    after = retry(before).document
    fresh = document(labels={"k": "v"}, display_name="n", attempt=2)
    assert replace(after, updated_at=fresh.updated_at) == fresh


@pytest.mark.parametrize(
    "start", [("RUNNING", "I"), ("STALLED", "S"), ("PAUSED", "C"), ("FAILED", "I")]
)
def test_start_by_another_worker_resets_everything(start: tuple[str, str]) -> None:
    after = start_attempt(situation(*start), "w2", now=NOW).document
    fresh = document(attempt=2, state=RUNNING, worker="w2", processing_started_at=NOW)
    assert replace(after, updated_at=fresh.updated_at) == fresh


def test_error_with_another_message_is_not_a_repeat() -> None:
    other = replace(ERROR, message="Other words.")
    with pytest.raises(IllegalTransition):
        apply_report(situation("FAILED", "P"), Report(document_id="doc-0", error=other), now=NOW)


def test_empty_report_is_a_sign_of_life() -> None:
    report = Report(document_id="doc-0")
    running, stalled = situation("RUNNING", "P"), situation("STALLED", "P")
    assert apply_report(running, report, now=NOW) == Change(document=running)
    change = apply_report(stalled, report, now=NOW)
    assert (change.kind, change.document) == (Kind.RECOVERED, running)


# Steps.


def in_step(stage: Stage | None, step: Step, **fields: Any) -> Report:
    return Report(document_id="doc-0", stage=stage, progress=Progress(step=step), **fields)


def test_counters_and_steps_leave_each_other_alone() -> None:
    before = document_in(RUNNING, progress=replace(COUNTED, step=PAGES))
    counted = apply_report(before, news(">"), now=NOW).document
    assert counted.progress == replace(MORE, step=PAGES)
    assert apply_report(counted, news("s"), now=NOW).document.progress == replace(MORE, step=TABLES)


@pytest.mark.parametrize(
    ("progress", "outcome"),
    [
        (replace(COUNTED, step=PAGES), DUPLICATE),
        (replace(FEWER, step=PAGES), OVERTAKEN),
        (replace(FEWER, step=TABLES), APPLIED),
        (replace(MORE, step=PAGES), APPLIED),
        (Progress(step=PAGES), DUPLICATE),  # without counters
        (Progress(total_segments=0, step=PAGES), OVERTAKEN),
    ],
)
def test_outcome_of_a_step_with_counters(progress: Progress, outcome: ReportOutcome) -> None:
    before = document_in(RUNNING, progress=replace(COUNTED, step=PAGES))
    report = Report(document_id="doc-0", progress=progress)
    assert apply_report(before, report, now=NOW).outcome is outcome


def test_failed_document_keeps_the_step_in_which_it_failed() -> None:
    before = document_in(RUNNING, Stage.PARSING, progress=Progress(step=PAGES))
    for report, step in (
        (news("e"), PAGES),
        (in_step(None, TABLES, error=ERROR), TABLES),
        (in_step(Stage.CLEANING, TABLES, error=ERROR), TABLES),
        (in_step(Stage.WAITING, TABLES, error=ERROR), PAGES),
        (news("eC"), None),
    ):
        assert apply_report(before, report, now=NOW).document.progress.step == step
    assert lose(replace(before, stalled=True), now=NOW).document.progress.step == PAGES


@pytest.mark.parametrize(
    "move", [lambda one: pause(one, now=NOW), stall, lambda one: start_attempt(one, "w1", now=NOW)]
)
def test_step_stays_where_no_stage_begins(move: Callable[[Document], Change]) -> None:
    before = document(progress=Progress(step=PAGES))
    assert move(before).document.progress.step == PAGES


def test_report_of_a_stage_without_a_step_keeps_the_counters() -> None:
    """Not a copy: sums over the batch are compared by identity."""
    before = document_in(RUNNING, progress=COUNTED)
    assert apply_report(before, news("P"), now=NOW).document.progress is before.progress
