"""The transition table, cell by cell, and the effect of every move on a document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from stagecast.errors import DocumentTaken, FieldInvalid, IllegalTransition, StaleAttempt
from stagecast.model import (
    Change,
    Document,
    DocumentState,
    Progress,
    Report,
    ReportOutcome,
    Stage,
    Step,
    TransitionKind,
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
from tests.builders import ERROR, NOW, OTHER_ERROR, document, document_in

PENDING, RUNNING, PAUSED, SUCCEEDED, FAILED, STOPPED = DocumentState
APPLIED, DUPLICATE, OVERTAKEN, _REFUSED = ReportOutcome
Kind = TransitionKind

STAGES: dict[str, Stage] = {stage.name[0]: stage for stage in Stage if stage is not Stage.COMPLETED}
STAGES["D"] = Stage.COMPLETED  # done; C is CLEANING

# Rows: the document (state, stage; each with 4 of 10 segments, and the step "pages 2").
#   UNTAKEN: PAUSED before a worker started it; STALLED: RUNNING; OVERDUE: PENDING and stalled.
#   FAILED: with the error of the report; FAILED': with another error.
# Columns: the report.
#   W P C S I D   stage WAITING, PARSING, CLEANING, SPLITTING, INDEXING, COMPLETED
#   e eW … eI     an error; an error and a stage (`wire` refuses COMPLETED with an error)
#   > = <         5, 4, 3 of 10 segments
#   s r sW … sD   another step, or the same; another step and a stage
# Cells: the outcome.
#   =             DUPLICATE, nothing changes       <   OVERTAKEN, nothing changes
#   X             refused, ILLEGAL_TRANSITION
#   rS pS         STAGE_ENTERED: RUNNING or PAUSED in that stage
#   ok            SUCCEEDED                        fS  FAILED in that stage
#   +             the new counters or step, no transition
#   ~             RECOVERED                        ~+  RECOVERED, with the new counters or step
# A stage that begins has the step of its report, or none.
TABLE = """
              W  P  C  S  I  D    e  eW eP eC eS eI   >  =  <   s  r  sW sP sC sS sI sD

PENDING   W   =  rP rC rS rI ok   fW fW fP fC fS fI   +  =  <   +  =  +  rP rC rS rI ok
OVERDUE   W   =  rP rC rS rI ok   fW fW fP fC fS fI   +  =  <   +  =  +  rP rC rS rI ok
RUNNING   W   =  rP rC rS rI ok   fW fW fP fC fS fI   +  =  <   +  =  +  rP rC rS rI ok
RUNNING   P   <  =  rC rS rI ok   fP fP fP fC fS fI   +  =  <   +  =  <  +  rC rS rI ok
RUNNING   C   <  <  =  rS rI ok   fC fC fC fC fS fI   +  =  <   +  =  <  <  +  rS rI ok
RUNNING   S   <  <  <  =  rI ok   fS fS fS fS fS fI   +  =  <   +  =  <  <  <  +  rI ok
RUNNING   I   <  <  <  <  =  ok   fI fI fI fI fI fI   +  =  <   +  =  <  <  <  <  +  ok

UNTAKEN   W   =  pP pC pS pI ok   fW fW fP fC fS fI   +  =  <   +  =  +  pP pC pS pI ok
PAUSED    W   =  pP pC pS pI ok   fW fW fP fC fS fI   +  =  <   +  =  +  pP pC pS pI ok
PAUSED    P   <  =  pC pS pI ok   fP fP fP fC fS fI   +  =  <   +  =  <  +  pC pS pI ok
PAUSED    C   <  <  =  pS pI ok   fC fC fC fC fS fI   +  =  <   +  =  <  <  +  pS pI ok
PAUSED    S   <  <  <  =  pI ok   fS fS fS fS fS fI   +  =  <   +  =  <  <  <  +  pI ok
PAUSED    I   <  <  <  <  =  ok   fI fI fI fI fI fI   +  =  <   +  =  <  <  <  <  +  ok

STALLED   W   ~  rP rC rS rI ok   fW fW fP fC fS fI   ~+ ~  ~   ~+ ~  ~+ rP rC rS rI ok
STALLED   P   ~  ~  rC rS rI ok   fP fP fP fC fS fI   ~+ ~  ~   ~+ ~  ~  ~+ rC rS rI ok
STALLED   C   ~  ~  ~  rS rI ok   fC fC fC fC fS fI   ~+ ~  ~   ~+ ~  ~  ~  ~+ rS rI ok
STALLED   S   ~  ~  ~  ~  rI ok   fS fS fS fS fS fI   ~+ ~  ~   ~+ ~  ~  ~  ~  ~+ rI ok
STALLED   I   ~  ~  ~  ~  ~  ok   fI fI fI fI fI fI   ~+ ~  ~   ~+ ~  ~  ~  ~  ~  ~+ ok

SUCCEEDED D   <  <  <  <  <  =    X  X  X  X  X  X    <  =  <   <  =  <  <  <  <  <  <

FAILED    W   <  X  X  X  X  X    =  =  X  X  X  X    <  =  <   <  =  <  X  X  X  X  X
FAILED    P   <  <  X  X  X  X    =  =  =  X  X  X    <  =  <   <  =  <  <  X  X  X  X
FAILED    C   <  <  <  X  X  X    =  =  =  =  X  X    <  =  <   <  =  <  <  <  X  X  X
FAILED    S   <  <  <  <  X  X    =  =  =  =  =  X    <  =  <   <  =  <  <  <  <  X  X
FAILED    I   <  <  <  <  <  X    =  =  =  =  =  =    <  =  <   <  =  <  <  <  <  <  X

FAILED'   W   <  X  X  X  X  X    X  X  X  X  X  X    <  =  <   <  =  <  X  X  X  X  X
FAILED'   P   <  <  X  X  X  X    X  X  X  X  X  X    <  =  <   <  =  <  <  X  X  X  X
FAILED'   C   <  <  <  X  X  X    X  X  X  X  X  X    <  =  <   <  =  <  <  <  X  X  X
FAILED'   S   <  <  <  <  X  X    X  X  X  X  X  X    <  =  <   <  =  <  <  <  <  X  X
FAILED'   I   <  <  <  <  <  X    X  X  X  X  X  X    <  =  <   <  =  <  <  <  <  <  X

STOPPED   W   <  X  X  X  X  X    X  X  X  X  X  X    <  =  <   <  =  <  X  X  X  X  X
STOPPED   P   <  <  X  X  X  X    X  X  X  X  X  X    <  =  <   <  =  <  <  X  X  X  X
STOPPED   C   <  <  <  X  X  X    X  X  X  X  X  X    <  =  <   <  =  <  <  <  X  X  X
STOPPED   S   <  <  <  <  X  X    X  X  X  X  X  X    <  =  <   <  =  <  <  <  <  X  X
STOPPED   I   <  <  <  <  <  X    X  X  X  X  X  X    <  =  <   <  =  <  <  <  <  <  X
"""

PAGES, TABLES = Step(name="pages", completed=2), Step(name="tables", completed=1, total=3)
COUNTED = Progress(completed_segments=4, total_segments=10)
MORE = Progress(completed_segments=5, total_segments=10)
FEWER = Progress(completed_segments=3, total_segments=10)

UNCHANGED = {"=": DUPLICATE, "<": OVERTAKEN}
ENTERED = {"r": RUNNING, "p": PAUSED}


def situation(state: str, letter: str) -> Document:
    stage = STAGES[letter]
    match state:
        case "UNTAKEN":
            actual = document_in(PAUSED, stage, worker="", processing_started_at=None)
        case "OVERDUE":
            actual = document_in(PENDING, stage, stalled=True)
        case "STALLED":
            actual = document_in(RUNNING, stage, stalled=True)
        case "FAILED'":
            actual = document_in(FAILED, stage, error=OTHER_ERROR)
        case _:
            actual = document_in(DocumentState[state], stage)
    return replace(actual, progress=replace(COUNTED, step=PAGES))


def news(column: str) -> Report:
    progress = {
        ">": MORE,
        "=": COUNTED,
        "<": FEWER,
        "s": Progress(step=TABLES),
        "r": Progress(step=PAGES),
    }
    return Report(
        document_id="doc-0",
        stage=STAGES.get(column[-1]),
        error=ERROR if column.startswith("e") else None,
        progress=progress.get(column[0]),
    )


def cells(table: str) -> list[object]:
    head, *rows = (line.split() for line in table.splitlines() if line)
    return [
        pytest.param((state, stage), column, cell, id=f"{state}-{stage}-{column}")
        for state, stage, *row in rows
        for column, cell in zip(head, row, strict=True)
    ]


def test_table_has_a_row_and_a_column_for_every_stage() -> None:
    assert len(STAGES) == len(Stage)  # initial letters are unique
    head, *rows = (line.split() for line in TABLE.splitlines() if line)
    assert set(STAGES) <= set(head)
    for state in ("RUNNING", "PAUSED", "STALLED", "FAILED", "STOPPED"):
        assert {row[1] for row in rows if row[0] == state} == STAGES.keys() - {"D"}


@pytest.mark.parametrize(("start", "column", "cell"), cells(TABLE))
def test_report_has_the_outcome_of_the_table(
    start: tuple[str, str], column: str, cell: str
) -> None:
    before = situation(*start)
    if cell == "X":
        with pytest.raises(IllegalTransition):
            apply_report(before, news(column), now=NOW)
        return
    change = apply_report(before, news(column), now=NOW)
    if cell in UNCHANGED:
        assert change == Change(document=before, kind=None, outcome=UNCHANGED[cell])
        assert change.document is before
        return
    after = change.document
    assert change.outcome is APPLIED
    assert (change.kind, after.state, after.stage) == expected_move(cell, before)
    assert after.progress == expected_progress(cell, column, before, after)
    assert after.error == (ERROR if cell.startswith("f") else None)
    # Counters do not mean that a worker has started it.
    assert after.stalled == (start[0] == "OVERDUE" and change.kind is None)
    assert (after.attempt, after.worker) == (before.attempt, before.worker)


def expected_progress(cell: str, column: str, before: Document, after: Document) -> Progress:
    counters = MORE if column == ">" else COUNTED
    reported = TABLES if column.startswith("s") else None
    if after.stage is not before.stage:
        return replace(counters, step=reported)
    return replace(counters, step=reported if reported and cell.endswith("+") else PAGES)


def expected_move(
    cell: str, before: Document
) -> tuple[TransitionKind | None, DocumentState, Stage]:
    if cell == "ok":
        return Kind.SUCCEEDED, SUCCEEDED, Stage.COMPLETED
    if cell[0] in "+~":
        return {"+": None, "~": Kind.RECOVERED}[cell[0]], before.state, before.stage
    if cell[0] == "f":
        return Kind.FAILED, FAILED, STAGES[cell[1]]
    return Kind.STAGE_ENTERED, ENTERED[cell[0]], STAGES[cell[1]]


# Moves of a document, in the situations of the table above.
#   Worker w1 has every started document; `same` is its StartAttempt, `other` that of w2; with `?`
#   only if it is pending.
#   X             refused, DOCUMENT_TAKEN
#   =             nothing changes
#   state/stage   of the document afterwards; ^ with a new attempt
MOVES = """
              same        other       pause     resume     stop       retry       stall      recover    lose      same?      other?

PENDING    W  RUNNING/W   RUNNING/W   PAUSED/W  =          STOPPED/W  =           OVERDUE/W  =          =         RUNNING/W  RUNNING/W
OVERDUE    W  RUNNING/W   RUNNING/W   PAUSED/W  =          STOPPED/W  =           =          =          =         RUNNING/W  RUNNING/W
RUNNING    W  =           RUNNING/W^  PAUSED/W  =          STOPPED/W  =           STALLED/W  =          =         =          X
RUNNING    P  =           RUNNING/W^  PAUSED/P  =          STOPPED/P  =           STALLED/P  =          =         =          X
RUNNING    I  =           RUNNING/W^  PAUSED/I  =          STOPPED/I  =           STALLED/I  =          =         =          X
UNTAKEN    W  RUNNING/W^  RUNNING/W^  =         PENDING/W  STOPPED/W  =           =          =          =         X          X
PAUSED     W  =           RUNNING/W^  =         RUNNING/W  STOPPED/W  =           =          =          =         =          X
PAUSED     S  =           RUNNING/W^  =         RUNNING/S  STOPPED/S  =           =          =          =         =          X
STALLED    W  RUNNING/W   RUNNING/W^  PAUSED/W  =          STOPPED/W  =           =          RUNNING/W  FAILED/W  RUNNING/W  X
STALLED    C  RUNNING/C   RUNNING/W^  PAUSED/C  =          STOPPED/C  =           =          RUNNING/C  FAILED/C  RUNNING/C  X
SUCCEEDED  D  RUNNING/W^  RUNNING/W^  =         =          =          PENDING/W^  =          =          =         X          X
FAILED     W  RUNNING/W^  RUNNING/W^  =         =          =          PENDING/W^  =          =          =         X          X
FAILED     I  RUNNING/W^  RUNNING/W^  =         =          =          PENDING/W^  =          =          =         X          X
STOPPED    P  RUNNING/W^  RUNNING/W^  =         =          =          PENDING/W^  =          =          =         X          X
"""  # noqa: E501 - a table is read across


def start_if_pending(actual: Document, worker: str) -> Change:
    return start_attempt(actual, worker, now=NOW, only_if_pending=True)


REQUESTED: dict[str, tuple[Kind, Callable[[Document], Change]]] = {
    "same": (Kind.STARTED, lambda actual: start_attempt(actual, "w1", now=NOW)),
    "other": (Kind.STARTED, lambda actual: start_attempt(actual, "w2", now=NOW)),
    "same?": (Kind.STARTED, lambda actual: start_if_pending(actual, "w1")),
    "other?": (Kind.STARTED, lambda actual: start_if_pending(actual, "w2")),
    "pause": (Kind.PAUSED, lambda actual: pause(actual, now=NOW)),
    "resume": (Kind.RESUMED, resume),
    "stop": (Kind.STOPPED, lambda actual: stop(actual, now=NOW)),
    "retry": (Kind.RETRIED, retry),
    "stall": (Kind.STALLED, stall),
    "recover": (Kind.RECOVERED, recover),
    "lose": (Kind.FAILED, lambda actual: lose(actual, now=NOW)),
}


@pytest.mark.parametrize(("start", "requested", "cell"), cells(MOVES))
def test_move_has_the_outcome_of_the_table(
    start: tuple[str, str], requested: str, cell: str
) -> None:
    before = situation(*start)
    kind, perform = REQUESTED[requested]
    if cell == "X":
        with pytest.raises(DocumentTaken, match="document 'doc-0' is taken"):
            perform(before)
        return
    change = perform(before)
    after = change.document
    if cell == "=":
        assert change == Change(document=before)
        assert after is before
        return
    state, _, stage = cell.rstrip("^").partition("/")
    # The only ambiguous cell: StartAttempt of the worker that has a stalled document.
    recovered = requested in ("same", "same?") and start[0] == "STALLED"
    assert change.kind is (Kind.RECOVERED if recovered else kind)
    assert change.outcome is APPLIED
    assert after.state.name == state.replace("STALLED", "RUNNING").replace("OVERDUE", "PENDING")
    assert after.stage is STAGES[stage]
    assert after.stalled == (state in ("STALLED", "OVERDUE"))
    assert after.attempt == before.attempt + cell.endswith("^")


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
