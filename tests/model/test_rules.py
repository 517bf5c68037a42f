"""The transition table, cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from stagecast.errors import DocumentTaken, IllegalTransition
from stagecast.model import (
    Change,
    Document,
    DocumentState,
    Progress,
    Stage,
    TransitionKind,
    apply_report,
    lose,
    pause,
    recover,
    resume,
    retry,
    stall,
    start_attempt,
    stop,
)
from tests.builders import ERROR, NOW
from tests.model.situations import (
    APPLIED,
    COUNTED,
    DUPLICATE,
    FAILED,
    MORE,
    OVERTAKEN,
    PAGES,
    PAUSED,
    RUNNING,
    STAGES,
    SUCCEEDED,
    TABLES,
    Kind,
    news,
    situation,
)

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

UNCHANGED = {"=": DUPLICATE, "<": OVERTAKEN}
ENTERED = {"r": RUNNING, "p": PAUSED}


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
