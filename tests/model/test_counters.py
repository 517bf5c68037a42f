"""The counters of a report: they never decrease, and are accepted with any other change."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from stagecast.model import (
    DocumentState,
    Progress,
    Report,
    ReportOutcome,
    Stage,
    TransitionKind,
    apply_report,
)
from tests.builders import ERROR, NOW, document_in

PENDING, RUNNING, PAUSED, *_ = DocumentState
APPLIED, DUPLICATE, OVERTAKEN, _REFUSED = ReportOutcome
Kind = TransitionKind

COUNTED = Progress(completed_segments=4, total_segments=10)
MORE = Progress(completed_segments=5, total_segments=10)
FEWER = Progress(completed_segments=3, total_segments=10)


def counted(completed: int, total: int | None) -> Progress:
    return Progress(completed_segments=completed, total_segments=total)


def received(completed: int, total: int | None, **more: Any) -> Report:
    return replace(Report(document_id="doc-0", progress=counted(completed, total)), **more)


@pytest.mark.parametrize(
    ("known", "reported", "outcome", "after"),
    [
        ((0, None), (0, None), DUPLICATE, (0, None)),
        ((0, None), (7, None), APPLIED, (7, None)),
        ((0, None), (0, 10), APPLIED, (0, 10)),
        ((0, None), (0, 0), APPLIED, (0, 0)),
        ((7, None), (7, 7), APPLIED, (7, 7)),
        ((7, None), (6, None), OVERTAKEN, (7, None)),
        ((7, None), (6, 10), APPLIED, (7, 10)),  # each counter by itself
        ((7, 10), (8, None), APPLIED, (8, 10)),  # an omitted total stays
        ((7, 10), (7, None), DUPLICATE, (7, 10)),
        ((7, 10), (10, 10), APPLIED, (10, 10)),
        ((7, 10), (7, 12), APPLIED, (7, 12)),
        ((7, 10), (8, 9), APPLIED, (8, 10)),
        ((7, 10), (6, 12), APPLIED, (7, 12)),
        ((7, 10), (6, 9), OVERTAKEN, (7, 10)),
        ((5, 5), (8, None), APPLIED, (8, 8)),  # a report of the higher total is late
        ((7, 10), (7, 0), OVERTAKEN, (7, 10)),
        ((0, 10), (0, 10), DUPLICATE, (0, 10)),
    ],
)
@pytest.mark.parametrize("state", [PENDING, RUNNING, PAUSED])
def test_counters_never_decrease(
    state: DocumentState,
    known: tuple[int, int | None],
    reported: tuple[int, int | None],
    outcome: ReportOutcome,
    after: tuple[int, int | None],
) -> None:
    before = document_in(state, progress=counted(*known))
    change = apply_report(before, received(*reported), now=NOW)
    assert (change.kind, change.outcome) == (None, outcome)
    assert change.document == replace(before, progress=counted(*after))


def test_order_of_counter_reports_does_not_matter() -> None:
    reports = [received(3, 5), received(6, 10), received(8, None), received(2, None)]
    for order in itertools.permutations(reports):
        after = document_in(RUNNING)
        for report in order:
            after = apply_report(after, report, now=NOW).document
        assert after.progress == counted(8, 10)


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"stage": Stage.INDEXING}, Kind.STAGE_ENTERED),
        ({"stage": Stage.COMPLETED}, Kind.SUCCEEDED),
        ({"error": ERROR}, Kind.FAILED),
        ({"stage": Stage.INDEXING, "error": ERROR}, Kind.FAILED),
    ],
)
def test_all_parts_of_one_report_are_one_transition(
    more: dict[str, object], kind: TransitionKind
) -> None:
    before = document_in(RUNNING, Stage.SPLITTING, progress=COUNTED)
    change = apply_report(before, received(5, 10, **more), now=NOW)
    assert (change.kind, change.outcome) == (kind, APPLIED)
    assert change.document.progress == MORE


@pytest.mark.parametrize(
    ("stage", "reported", "outcome", "after"),
    [
        (Stage.INDEXING, FEWER, APPLIED, COUNTED),  # the stage is new, the counters are not
        (Stage.SPLITTING, MORE, APPLIED, MORE),
        (Stage.PARSING, MORE, APPLIED, MORE),
        (Stage.PARSING, COUNTED, OVERTAKEN, COUNTED),
        (Stage.SPLITTING, FEWER, OVERTAKEN, COUNTED),
        (Stage.SPLITTING, COUNTED, DUPLICATE, COUNTED),
    ],
)
def test_new_part_of_a_report_is_applied(
    stage: Stage, reported: Progress, outcome: ReportOutcome, after: Progress
) -> None:
    before = document_in(RUNNING, Stage.SPLITTING, progress=COUNTED)
    change = apply_report(
        before, Report(document_id="doc-0", stage=stage, progress=reported), now=NOW
    )
    assert (change.outcome, change.document.progress) == (outcome, after)
