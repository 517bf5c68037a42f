"""Documents and reports by short names, as the tables of rules have them."""

from __future__ import annotations

from dataclasses import replace

from stagecast.model import (
    Document,
    DocumentState,
    Progress,
    Report,
    ReportOutcome,
    Stage,
    Step,
    TransitionKind,
)
from tests.builders import ERROR, OTHER_ERROR, document_in

PENDING, RUNNING, PAUSED, SUCCEEDED, FAILED, STOPPED = DocumentState
APPLIED, DUPLICATE, OVERTAKEN, _REFUSED = ReportOutcome
Kind = TransitionKind

STAGES: dict[str, Stage] = {stage.name[0]: stage for stage in Stage if stage is not Stage.COMPLETED}
STAGES["D"] = Stage.COMPLETED  # done; C is CLEANING

PAGES, TABLES = Step(name="pages", completed=2), Step(name="tables", completed=1, total=3)
COUNTED = Progress(completed_segments=4, total_segments=10)
MORE = Progress(completed_segments=5, total_segments=10)
FEWER = Progress(completed_segments=3, total_segments=10)


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
