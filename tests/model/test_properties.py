"""Invariants of the model hold after any sequence of calls on a few documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stagecast.errors import DocumentTaken, StagecastError
from stagecast.model import (
    BatchEdit,
    Change,
    Document,
    DocumentCounts,
    DocumentState,
    Progress,
    Report,
    ReportOutcome,
    SegmentTotals,
    Stage,
    Step,
    Transition,
    apply_report,
    batch_at,
    lose,
    pause,
    recover,
    resume,
    retry,
    stall,
    start_attempt,
    stop,
)
from tests.builders import ERROR, NOW, OTHER_ERROR, batch, register_documents

DOCUMENTS = 3

numbers = st.integers(0, DOCUMENTS - 1)
# What `wire` accepts: not more completed segments than the total, no error with COMPLETED.
stages = st.none() | st.sampled_from(Stage)
errors = st.sampled_from([None, None, None, ERROR, OTHER_ERROR])
steps = st.none() | st.builds(
    Step, name=st.sampled_from(["pages", "tables"]), completed=st.integers(0, 2)
)
counters = st.none() | st.builds(
    lambda completed, rest, step: Progress(
        completed_segments=completed,
        total_segments=None if rest is None else completed + rest,
        step=step,
    ),
    st.integers(0, 5),
    st.none() | st.integers(0, 5),
    steps,
)
attempts = st.sampled_from(["any", "any", "current", "last", "next"])
reports = st.fixed_dictionaries(
    {"number": numbers, "attempt": attempts, "stage": stages, "progress": counters, "error": errors}
).filter(lambda news: news["error"] is None or news["stage"] is not Stage.COMPLETED)

MOVES: dict[str, Callable[[Document, int], Change]] = {
    "pause": lambda actual, now: pause(actual, now=now),
    "resume": lambda actual, _now: resume(actual),
    "stop": lambda actual, now: stop(actual, now=now),
    "retry": lambda actual, _now: retry(actual),
    "stall": lambda actual, _now: stall(actual),
    "recover": lambda actual, _now: recover(actual),
    "lose": lambda actual, now: lose(actual, now=now),
}

LEFT = {
    Stage.PARSING: "parsing_completed_at",
    Stage.CLEANING: "cleaning_completed_at",
    Stage.SPLITTING: "splitting_completed_at",
}


class Ingestion(RuleBasedStateMachine):
    """One batch; every rule is a call with an edit of its own, which is dropped if it is refused.

    `documents` are the stored ones, `log` has all transitions so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.batch = batch()
        self.documents: list[Document] = []
        self.log: list[Transition] = []
        self.clock = NOW
        self.calls = 0

    # Calls.

    @initialize(count=numbers)
    def create(self, count: int) -> None:
        edit = self.begin(new=True)
        edit.create()
        register_documents(edit, count)
        self.save(edit)

    @rule(by=st.integers(-3, 9))
    def advance_clock(self, by: int) -> None:
        self.clock += by

    @precondition(lambda self: len(self.documents) < DOCUMENTS and not self.batch.sealed)
    @rule()
    def add_document(self) -> None:
        edit = self.begin()
        register_documents(edit, 1)
        self.save(edit)

    @rule()
    def seal(self) -> None:
        edit = self.begin()
        edit.seal()
        self.save(edit)

    @rule(number=numbers, worker=st.sampled_from(["w1", "w2"]), only_if_pending=st.booleans())
    def start(self, number: int, worker: str, only_if_pending: bool) -> None:
        if number < len(self.documents):
            edit, actual = self.begin(), self.documents[number]
            try:
                change = start_attempt(
                    actual, worker, now=edit.now, only_if_pending=only_if_pending
                )
            except DocumentTaken:
                assert only_if_pending
                assert actual.state is not DocumentState.PENDING
                return
            after = edit.apply(actual, change)
            assert not only_if_pending or after.attempt == actual.attempt
            self.save(edit)

    @rule(number=numbers, move=st.sampled_from(sorted(MOVES)))
    def move(self, number: int, move: str) -> None:
        if number < len(self.documents):
            edit, actual = self.begin(), self.documents[number]
            edit.apply(actual, MOVES[move](actual, edit.now))
            self.save(edit)

    @rule(news=reports)
    def report(self, news: dict[str, Any]) -> None:
        self.report_together([news])

    @rule(many=st.lists(reports, min_size=1, max_size=4))
    def report_partially(self, many: list[dict[str, Any]]) -> None:
        edit = self.begin()
        actual = list(self.documents)
        for number, report in (
            self.report_of(**news) for news in many if news["number"] < len(self.documents)
        ):
            before = (edit.batch, len(edit.transitions), dict(edit.changed))
            try:
                actual[number] = self.apply(edit, actual[number], report)
            except StagecastError:
                assert before == (edit.batch, len(edit.transitions), edit.changed)
        self.save(edit)

    @rule(many=st.lists(reports, min_size=2, max_size=4))
    def report_together(self, many: list[dict[str, Any]]) -> None:
        known = [self.report_of(**news) for news in many if news["number"] < len(self.documents)]
        edit = self.begin()
        actual = list(self.documents)
        try:
            for number, report in known:
                actual[number] = self.apply(edit, actual[number], report)
        except StagecastError:
            return  # nothing was saved; the invariants check the stored state
        self.save(edit)
        for number, report in known[-1:]:
            self.check_repeat(number, report)

    def report_of(self, *, number: int, attempt: str, **news: Any) -> tuple[int, Report]:
        current = self.documents[number].attempt
        named = {"any": 0, "current": current, "last": current - 1, "next": current + 1}[attempt]
        return number, Report(document_id=f"doc-{number}", attempt=named, **news)

    def apply(self, edit: BatchEdit, before: Document, report: Report) -> Document:
        change = apply_report(before, report, now=edit.now)
        changed = change.document != before
        assert changed == (change.outcome is ReportOutcome.APPLIED)
        assert (change.kind is None) or changed
        return edit.apply(before, change)

    def check_repeat(self, number: int, report: Report) -> None:
        edit, before = self.begin(), self.documents[number]
        change = apply_report(before, report, now=edit.now)
        assert change.outcome in (ReportOutcome.DUPLICATE, ReportOutcome.OVERTAKEN)
        assert edit.apply(before, change) is before
        assert not edit.dirty

    def begin(self, *, new: bool = False) -> BatchEdit:
        self.calls += 1
        return BatchEdit(self.batch, new=new, now=self.clock, write_id=self.calls, server_epoch=1)

    def save(self, edit: BatchEdit) -> None:
        if not edit.dirty:
            assert edit.batch == self.batch
            return
        self.check_log(edit)
        for after in (edit.added | edit.changed).values():
            if after.position == len(self.documents):
                self.documents.append(after)
            else:
                check_step(self.documents[after.position], after)
                self.documents[after.position] = after
        progress_seqs = sorted(edit.progress_seqs.values())
        assert all(progress_seq > self.batch.progress_seq for progress_seq in progress_seqs)
        assert edit.batch.progress_seq == max([self.batch.progress_seq, *progress_seqs])
        self.batch = edit.batch

    def check_log(self, edit: BatchEdit) -> None:
        """Check that each transition continues from the state before it."""
        latest = dict(enumerate(self.documents))
        for transition in edit.transitions:
            after = transition.document
            if after is not None:
                before = latest.get(after.position)
                assert transition.previous_state == (before and before.state)
                assert transition.previous_stage == (before and before.stage)
                assert after.revision == transition.revision
                assert after.updated_at == transition.committed_at
                latest[after.position] = after
                assert transition.counts == recount(latest.values())
            assert transition.write_id == self.calls
        self.log += edit.transitions

    # Invariants after every call.

    @invariant()
    def counts_are_those_of_the_documents(self) -> None:
        assert self.batch.counts == recount(self.documents)
        assert self.batch.counts.total == len(self.documents)

    @invariant()
    def segments_are_those_of_the_documents(self) -> None:
        progress = [actual.progress for actual in self.documents]
        assert self.batch.segments == SegmentTotals(
            completed=sum(one.completed_segments for one in progress),
            total=sum(one.total_segments or 0 for one in progress),
            unknown=sum(one.total_segments is None for one in progress),
        )

    @invariant()
    def revisions_are_dense(self) -> None:
        revisions = [transition.revision for transition in self.log]
        assert revisions == list(range(1, self.batch.revision + 1))

    @invariant()
    def commit_times_never_decrease(self) -> None:
        assert all(one.committed_at <= two.committed_at for one, two in pairwise(self.log))

    @invariant()
    def batch_has_ended_if_sealed_and_nothing_is_open(self) -> None:
        done = all(actual.state.terminal for actual in self.documents)
        assert (self.batch.ended_at is not None) == (self.batch.sealed and done)

    @invariant()
    def batch_matches_its_last_transition(self) -> None:
        if self.log:
            assert batch_at(self.batch, self.log[-1]) == self.batch

    @invariant()
    def documents_are_consistent(self) -> None:
        for actual in self.documents:
            check_state(actual)
            check_times(actual, self.batch.updated_at)


def recount(documents: Iterable[Document]) -> DocumentCounts:
    actual = list(documents)
    states = Counter(one.state.name.lower() for one in actual)
    return DocumentCounts(**states, stalled=sum(one.stalled for one in actual))


def check_state(actual: Document) -> None:
    state, progress = actual.state, actual.progress
    assert (actual.error is not None) == (state is DocumentState.FAILED)
    assert (actual.stage is Stage.COMPLETED) == (state is DocumentState.SUCCEEDED)
    assert not actual.stalled or state in (DocumentState.PENDING, DocumentState.RUNNING)
    if progress.total_segments is not None:
        assert progress.completed_segments <= progress.total_segments
    if state is DocumentState.PENDING:
        assert (actual.stage, actual.worker) == (Stage.WAITING, "")


def check_times(actual: Document, newest: int) -> None:
    state, started = actual.state, actual.processing_started_at
    ended_badly = state in (DocumentState.FAILED, DocumentState.STOPPED)
    assert (actual.paused_at is not None) == (state is DocumentState.PAUSED)
    assert (actual.stopped_at is not None) == ended_badly
    assert (actual.completed_at is not None) == (state is DocumentState.SUCCEEDED)
    for stage, name in LEFT.items():
        assert (getattr(actual, name) is not None) == (actual.stage > stage)
    if actual.stage > Stage.WAITING or state is DocumentState.RUNNING:
        assert started is not None
    if state is DocumentState.PENDING:
        assert started is None
    left = [getattr(actual, name) for name in LEFT.values()]
    check_order(actual.created_at, started, *left, actual.completed_at, actual.stopped_at, newest)
    check_order(actual.created_at, actual.paused_at, newest)  # stages go on while it is paused


def check_order(*times: int | None) -> None:
    passed = [time for time in times if time is not None]
    assert passed == sorted(passed)


def check_step(before: Document, after: Document) -> None:
    assert after.attempt >= before.attempt
    assert after.revision >= before.revision
    assert after.updated_at >= before.updated_at
    if after.attempt > before.attempt:
        assert after.progress == Progress()
        return
    assert after.stage >= before.stage
    assert after.progress.completed_segments >= before.progress.completed_segments
    assert (after.progress.total_segments or 0) >= (before.progress.total_segments or 0)
    if before.progress.total_segments is not None:
        assert after.progress.total_segments is not None
    if before.worker:
        assert after.worker == before.worker


TestIngestion = Ingestion.TestCase
TestIngestion.settings = settings(max_examples=100, stateful_step_count=40)
