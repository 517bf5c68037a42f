"""What comes next, decided without a server: merging, order, limits, orders, starts."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import pytest

from stagecast.client.records import NewDocument
from stagecast.client.reporting import outbox as module
from stagecast.client.reporting.jobs import (
    Heartbeat,
    Job,
    Open,
    Register,
    Report,
    Seal,
    StartAttempts,
)
from stagecast.client.reporting.options import BatchOptions
from stagecast.client.reporting.outbox import Outbox
from stagecast.client.reporting.queues import (
    BatchQueue,
    DocumentQueue,
    Entry,
    Mode,
    Step,
    Takeover,
)
from stagecast.errors import (
    BatchNotFound,
    BatchSealed,
    DocumentExists,
    DocumentNotFound,
    DocumentTaken,
    FieldInvalid,
)
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s

J = TypeVar("J", bound=Job)

STAGES = (r.STAGE_PARSING, r.STAGE_SPLITTING, r.STAGE_INDEXING)


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Scripted:
    """An outbox whose calls are answered by hand.

    Attributes:
        sent: the requests of all calls, in their order.
    """

    def __init__(self, *documents: str, limit: int | None = None, mode: Mode = Mode.CREATE) -> None:
        self.time = Time()
        self.outbox = Outbox(limit=limit, now=self.time)
        self.batch = BatchQueue(BatchOptions(dataset_id="d", batch_id="b"), mode)
        self.batch.submitted = True
        self.sent: list[Any] = []
        self.outbox.open(self.batch)
        self.outbox.register(self.batch, [NewDocument(document_id=each) for each in documents])

    def document(
        self, name: str = "a", takeover: Takeover = Takeover.OPEN_OR_FAILED
    ) -> DocumentQueue:
        """Return a document that was started and has its heartbeats."""
        document = DocumentQueue(self.batch, name, "worker")
        self.outbox.work_on(document)
        self.outbox.start(document, takeover)
        return document

    def stage(self, document: DocumentQueue, *stages: r.Stage.ValueType) -> None:
        """Report stages."""
        for stage in stages:
            self.outbox.put(document, Entry(time_ns=1, stage=stage))

    def count(self, document: DocumentQueue, completed: int, **fields: Any) -> None:
        """Report counters."""
        self.outbox.put(document, Entry(time_ns=1, completed=completed, **fields))

    def run(self, **errors: Any) -> list[Any]:
        """Answer all calls of a round, by the names of their jobs with errors; return requests."""
        before = len(self.sent)
        self.outbox.begin_round()
        while (job := self.outbox.next_job()) is not None:
            self.answer(job, errors.get(type(job).__name__))
        return self.sent[before:]

    def run_until(self, kind: type[J]) -> J:
        """Answer the calls of a round up to a job of one kind, and return that."""
        self.outbox.begin_round()
        while not isinstance(job := self.outbox.next_job(), kind):
            assert job is not None
            self.answer(job)
        return job

    def answer(self, job: Job, error: Any = None) -> None:
        """Answer the calls of a job."""
        applied = []
        for index, call in enumerate(job.calls()):
            self.sent.append(call.request)
            if error is not None:
                applied.append(partial(job.refused, index, error))
            else:
                applied.append(partial(job.answered, index, answer_of(call.request)))
        self.outbox.take(applied, answering=True)


def answer_of(request: Any) -> Any:
    """Return the answer of a server that takes everything."""
    match request:
        case pb.CreateBatchRequest():
            return pb.CreateBatchResponse(batch=r.Batch(revision=1))
        case pb.AddDocumentsRequest():
            return pb.AddDocumentsResponse(batch=r.Batch(revision=2))
        case pb.StartAttemptRequest():
            return pb.StartAttemptResponse(attempt=3)
        case pb.ReportRequest():
            applied = pb.ReportResult(outcome=pb.REPORT_OUTCOME_APPLIED)
            return pb.ReportResponse(results=[applied] * len(request.reports), revision=5)
        case pb.HeartbeatRequest():
            order = pb.DocumentOrder(order=pb.WORKER_ORDER_GO_ON)
            return pb.HeartbeatResponse(orders=[order] * len(request.documents))
        case s.ListDocumentsRequest():
            return s.ListDocumentsResponse()
        case _:
            return pb.SealBatchResponse(batch=r.Batch(sealed=True))


def reports_of(requests: list[Any]) -> list[pb.DocumentReport]:
    """Return the reports of requests."""
    return [
        report for each in requests if isinstance(each, pb.ReportRequest) for report in each.reports
    ]


def refusal(state: str, attempt: int = 1) -> DocumentTaken:
    return DocumentTaken("it is not pending", state=state, attempt=attempt)


# Order.


def test_batch_documents_attempts_and_reports_go_in_this_order() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    scripted.stage(document, *STAGES, r.STAGE_COMPLETED)
    scripted.outbox.seal(scripted.batch)
    requests = scripted.run()
    assert [type(each).__name__ for each in requests] == [
        "CreateBatchRequest",
        "AddDocumentsRequest",
        "StartAttemptRequest",
        "ReportRequest",
        "SealBatchRequest",
    ]
    reports = reports_of(requests)
    assert [report.stage for report in reports] == [*STAGES, r.STAGE_COMPLETED]
    assert {report.attempt for report in reports} == {3}
    assert requests[0].more_documents_follow
    assert scripted.outbox.idle


def test_reports_wait_for_their_start_while_others_are_sent() -> None:
    scripted = Scripted("a", "b")
    first, second = scripted.document("a"), scripted.document("b")
    scripted.stage(first, r.STAGE_PARSING)
    scripted.stage(second, r.STAGE_PARSING)
    job = scripted.run_until(StartAttempts)
    answer = pb.StartAttemptResponse(attempt=1)
    scripted.outbox.take([partial(job.answered, 1, answer), job.failed], answering=False)
    assert first in scripted.batch.starting
    del scripted.batch.starting[first]
    sent = scripted.run()
    assert [report.document_id for report in reports_of(sent)] == ["b"]
    assert len(first.entries) == 1


def test_reports_that_were_sent_leave_nothing_to_send() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    scripted.outbox.begin_round()
    scripted.stage(document, r.STAGE_PARSING)
    while (job := scripted.outbox.next_job()) is not None:
        scripted.answer(job)
    scripted.batch.heartbeat_at = float("inf")
    assert scripted.run() == []
    assert scripted.outbox.idle


def test_newer_counters_and_steps_replace_those_that_wait() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    scripted.stage(document, r.STAGE_INDEXING)
    for number in range(5):
        scripted.count(document, number, total=9)
    scripted.count(document, 5, step=Step("pages", 1, None))
    scripted.count(document, 6)
    scripted.stage(document, r.STAGE_COMPLETED)
    stage, counters, end = reports_of(scripted.run())
    assert (stage.stage, end.stage) == (r.STAGE_INDEXING, r.STAGE_COMPLETED)
    assert (counters.progress.completed_segments, counters.progress.total_segments) == (6, 9)
    assert counters.progress.step.name == "pages"


def test_counters_do_not_merge_across_a_stage_or_into_a_call_under_way() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    scripted.count(document, 1)
    scripted.stage(document, r.STAGE_INDEXING)
    scripted.count(document, 2)
    report = scripted.run_until(Report)
    scripted.count(document, 3)
    scripted.answer(report)
    assert [each.progress.completed_segments for each in reports_of(scripted.run())] == [3]


def test_reports_that_failed_are_sent_again_and_in_their_order() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    scripted.stage(document, *STAGES)
    job = scripted.run_until(Report)
    scripted.outbox.take([job.failed], answering=False)
    scripted.outbox.went_offline("away")
    scripted.stage(document, r.STAGE_COMPLETED)
    stages = [each.stage for each in reports_of(scripted.run())]
    assert stages == [*STAGES, r.STAGE_COMPLETED]
    assert scripted.outbox.stats(scripted.batch).delivered == 4


def test_another_attempt_waits_for_the_end_of_the_one_before() -> None:
    scripted = Scripted("a")
    first = scripted.document()
    scripted.outbox.put(first, Entry(time_ns=1, error=("BAD", "")))
    again = DocumentQueue(scripted.batch, "a", "worker")
    scripted.outbox.start(again, Takeover.ALWAYS)
    scripted.stage(again, r.STAGE_COMPLETED)
    names = [type(each).__name__ for each in (*scripted.run(), *scripted.run())]
    assert [name for name in names if name in ("StartAttemptRequest", "ReportRequest")] == [
        "StartAttemptRequest",
        "ReportRequest",
        "StartAttemptRequest",
        "ReportRequest",
    ]


def test_objects_of_one_document_are_sent_one_after_the_other() -> None:
    scripted = Scripted("a")
    first = scripted.document()
    scripted.stage(first, r.STAGE_PARSING)
    scripted.run()
    second = scripted.document()
    scripted.outbox.put(first, Entry(time_ns=1, error=("BAD", "")))
    third = scripted.document()
    scripted.stage(third, r.STAGE_COMPLETED)
    assert not second.follows
    assert third.follows
    scripted.stage(first, r.STAGE_SPLITTING)  # in turn again, which is behind the third
    scripted.run()
    scripted.run()
    scripted.run()
    stages = [each.stage for each in reports_of(scripted.sent)]
    assert stages == [r.STAGE_PARSING, 0, r.STAGE_SPLITTING, r.STAGE_COMPLETED]
    assert scripted.outbox.idle


def test_document_that_reports_without_end_leaves_room_for_others() -> None:
    scripted = Scripted("a", "b")
    busy = scripted.document("a")
    scripted.count(busy, 1)
    job = scripted.run_until(Report)
    scripted.count(busy, 2)
    other = scripted.document("b")
    scripted.answer(job)
    scripted.batch.heartbeat_at = float("inf")
    assert scripted.outbox.next_job() is None
    names = [type(each).__name__ for each in scripted.run()]
    assert names == ["StartAttemptRequest", "ReportRequest"]
    assert other.attempt


def test_earlier_run_is_read_after_all_that_this_process_has_reported_on_it() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    scripted.run()
    scripted.outbox.begin_round()
    scripted.stage(document, r.STAGE_COMPLETED)
    again = BatchQueue(scripted.batch.options, Mode.JOIN)
    scripted.outbox.open(again)
    scripted.outbox.survey(again)
    while (job := scripted.outbox.next_job()) is not None:
        scripted.answer(job)
    assert not again.ready
    names = [type(each).__name__ for each in scripted.run()]
    assert names == ["ReportRequest", "ListDocumentsRequest"]
    assert again.ready


def test_calls_are_small_enough_for_a_server() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    for _ in range(600):
        scripted.outbox.put(document, Entry(time_ns=1, stage=r.STAGE_PARSING))
    for _ in range(300):
        scripted.outbox.put(document, Entry(time_ns=1, error=("BAD", "é" * 4_096)))
    calls = [each for each in scripted.run() if isinstance(each, pb.ReportRequest)]
    assert sum(len(call.reports) for call in calls) == 900
    assert max(len(call.reports) for call in calls) == 500
    assert max(call.ByteSize() for call in calls) < 2 << 20
    big = {str(number): "é" * 256 for number in range(32)}
    scripted.outbox.register(
        scripted.batch,
        [NewDocument(document_id=str(number), labels=big) for number in range(1_000)],
    )
    added = [each for each in scripted.run() if isinstance(each, pb.AddDocumentsRequest)]
    assert sum(len(each.documents) for each in added) == 1_000
    assert max(each.ByteSize() for each in added) < 2 << 20


# When.


def test_reports_are_sent_after_a_moment_or_at_once_when_they_are_many() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    scripted.run()
    scripted.batch.heartbeat_at = float("inf")
    assert scripted.outbox.pause_s() is None or scripted.outbox.pause_s() == float("inf")
    scripted.stage(document, r.STAGE_PARSING)
    assert scripted.outbox.pause_s() == pytest.approx(module.FLUSH_S)
    for _ in range(500):
        scripted.stage(document, r.STAGE_PARSING)
    assert scripted.outbox.pause_s() == 0


def test_heartbeats_are_sent_by_a_third_of_the_silence_and_sooner_while_paused() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    scripted.run()
    scripted.batch.heartbeat_s = 3.0
    scripted.time.now += 60
    [heartbeat] = scripted.run()
    assert heartbeat.documents[0].attempt == 3
    assert scripted.outbox.pause_s() == pytest.approx(3.0)
    document.paused = True
    scripted.batch.plan_heartbeat(scripted.time.now)
    assert scripted.outbox.pause_s() == pytest.approx(1.0)
    scripted.outbox.close(document)
    scripted.time.now += 60
    assert scripted.run() == []


def test_heartbeats_end_when_there_is_no_progress_but_not_while_paused() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    scripted.run()
    document.silent_after = scripted.time.now + 10
    scripted.time.now += 9
    assert len(scripted.run()) == 1
    scripted.time.now += 9
    assert scripted.run() == []
    document.paused = True
    assert len(scripted.run()) == 1


# Exceptions of signal handlers.


@pytest.mark.parametrize("where", ["waiting", "changed", "start"])
def test_report_that_was_interrupted_is_sent_all_the_same(where: str) -> None:
    class Interrupted(dict[DocumentQueue, None]):
        def __setitem__(self, key: DocumentQueue, value: None) -> None:
            raise KeyboardInterrupt

    scripted = Scripted("a")
    document = scripted.document() if where != "start" else DocumentQueue(scripted.batch, "a", "w")
    scripted.run()
    before, scripted.batch.changed = scripted.batch.changed, Interrupted()
    interrupted = partial(scripted.outbox.start, document, Takeover.NEVER)
    if where != "start":
        interrupted = partial(scripted.stage, document, r.STAGE_PARSING)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    scripted.batch.changed = before
    if where == "waiting":
        before[document] = None
    scripted.stage(document, r.STAGE_COMPLETED)
    scripted.outbox.seal(scripted.batch)
    scripted.run()
    scripted.run()
    assert reports_of(scripted.sent)[-1].stage == r.STAGE_COMPLETED
    assert isinstance(scripted.sent[-1], pb.SealBatchRequest)
    assert scripted.outbox.idle


# Limits.


def test_counters_are_dropped_first_when_the_outbox_is_full(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scripted = Scripted("a", "b", limit=4)
    first, second = scripted.document("a"), scripted.document("b")
    scripted.stage(first, r.STAGE_PARSING)
    scripted.count(first, 1)
    scripted.stage(second, r.STAGE_PARSING)
    scripted.count(second, 1)
    scripted.stage(second, r.STAGE_SPLITTING)
    scripted.stage(second, r.STAGE_INDEXING)
    stats = scripted.outbox.stats(scripted.batch)
    assert (stats.waiting, stats.dropped) == (4, 2)
    scripted.stage(second, r.STAGE_COMPLETED)
    stats = scripted.outbox.stats(scripted.batch)
    assert (stats.waiting, stats.dropped) == (4, 3)
    reports = reports_of(scripted.run())
    assert not any(report.HasField("progress") for report in reports)
    assert [report.stage for report in reports if report.document_id == "b"] == [
        r.STAGE_PARSING,
        r.STAGE_SPLITTING,
        r.STAGE_COMPLETED,
    ]
    [warning] = caplog.messages
    assert "reports of batch b could not be delivered: the buffer is full" in warning


def test_document_that_begins_while_the_outbox_is_full_is_not_reported_at_all() -> None:
    scripted = Scripted("a", "b", limit=2)
    first = scripted.document("a")
    scripted.stage(first, r.STAGE_PARSING, r.STAGE_SPLITTING)
    second = scripted.document("b")
    scripted.stage(second, r.STAGE_PARSING, r.STAGE_COMPLETED)
    assert {report.document_id for report in reports_of(scripted.run())} == {"a"}
    assert scripted.outbox.stats(scripted.batch).dropped == 2
    assert scripted.outbox.idle


# Starts.


def starts_of(requests: list[Any]) -> list[bool]:
    """Return whether each start was for a pending document only."""
    return [each.only_if_pending for each in requests if isinstance(each, pb.StartAttemptRequest)]


@pytest.mark.parametrize("state", ["RUNNING", "FAILED"])
def test_start_takes_over_what_is_open_or_has_failed(state: str) -> None:
    scripted = Scripted("a")
    scripted.document()
    scripted.outbox.begin_round()
    while (job := scripted.outbox.next_job()) is not None:
        first = starts_of([call.request for call in job.calls()]) == [True]
        scripted.answer(job, refusal(state) if first else None)
    assert starts_of(scripted.sent) == [True, False]


@pytest.mark.parametrize("takeover", Takeover)
@pytest.mark.parametrize("state", ["SUCCEEDED", "STOPPED", "RUNNING", "FAILED"])
def test_start_that_was_made_offline_undoes_nothing(state: str, takeover: Takeover) -> None:
    scripted = Scripted("a")
    scripted.outbox.went_offline("away")
    document = scripted.document(takeover=takeover)
    scripted.stage(document, r.STAGE_PARSING)
    assert starts_of(scripted.run(StartAttempts=refusal(state))) == [True]
    assert document.stopped
    assert scripted.outbox.stats(scripted.batch).refused == 1
    assert scripted.outbox.idle


@pytest.mark.parametrize("takeover", [Takeover.OPEN_OR_FAILED, Takeover.ALWAYS])
def test_start_that_was_made_offline_tries_again_what_this_process_has_failed(
    takeover: Takeover,
) -> None:
    scripted = Scripted("a")
    first = scripted.document()
    scripted.outbox.put(first, Entry(time_ns=1, error=("BAD", "")))
    scripted.run()
    scripted.outbox.went_offline("away")
    again = scripted.document(takeover=takeover)
    scripted.stage(again, r.STAGE_COMPLETED)
    job = scripted.run_until(StartAttempts)
    scripted.answer(job, refusal("FAILED", attempt=3))
    job = scripted.run_until(StartAttempts)
    assert starts_of([call.request for call in job.calls()]) == [False]
    scripted.outbox.take([job.failed], answering=False)  # whatever has happened in between
    scripted.run(StartAttempts=refusal("FAILED", attempt=4))
    assert starts_of(scripted.sent)[-1]
    assert again.stopped


def test_start_whose_call_failed_undoes_nothing() -> None:
    scripted = Scripted("a")
    scripted.document(takeover=Takeover.ALWAYS)
    job = scripted.run_until(StartAttempts)
    assert starts_of([call.request for call in job.calls()]) == [False]
    scripted.outbox.take([job.failed], answering=False)
    assert starts_of(scripted.run()) == [True]


@pytest.mark.parametrize("state", ["SUCCEEDED", "STOPPED"])
def test_start_leaves_alone_what_succeeded_or_was_stopped(state: str) -> None:
    scripted = Scripted("a")
    document = scripted.document()
    assert starts_of(scripted.run(StartAttempts=refusal(state))) == [True]
    assert document.stopped in ("it was stopped", "it has succeeded already")


def test_start_of_a_paused_document_waits_until_it_is_resumed() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    scripted.stage(document, r.STAGE_PARSING)
    scripted.run(StartAttempts=refusal("PAUSED"))
    assert document.paused
    assert not scripted.batch.idle
    scripted.time.now += 10
    requests = scripted.run()
    assert [type(each).__name__ for each in requests] == [
        "HeartbeatRequest",
        "StartAttemptRequest",
        "ReportRequest",
    ]
    assert not document.paused
    assert scripted.batch.idle


# Refusals.


def test_documents_are_registered_one_by_one_to_find_the_invalid_one() -> None:
    scripted = Scripted("a", "bad", "c")
    document = scripted.document("bad")
    scripted.stage(document, r.STAGE_PARSING)
    scripted.outbox.begin_round()
    registered = []
    while (job := scripted.outbox.next_job()) is not None:
        request: Any = job.calls()[0].request
        bad = isinstance(job, Register) and "bad" in str(request)
        scripted.answer(job, FieldInvalid("documents[1].labels", "must") if bad else None)
        if isinstance(job, Register) and not bad:
            registered += [new.document_id for new in request.documents]
    assert registered == ["a", "c"]
    assert document.refused
    assert scripted.outbox.stats(scripted.batch).dropped == 1


def test_sealed_batch_is_asked_for_each_document() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    scripted.stage(document, r.STAGE_PARSING)
    scripted.run(Register=BatchSealed("sealed"), StartAttempts=DocumentNotFound("d", "b", "a"))
    assert "no document" in document.refused
    assert scripted.outbox.idle


def test_report_that_is_refused_stops_the_document_or_counts() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    scripted.stage(document, r.STAGE_PARSING, r.STAGE_SPLITTING)
    job = scripted.run_until(Report)
    refused = [
        pb.ReportResult(
            outcome=pb.REPORT_OUTCOME_REFUSED,
            refusal=pb.ReportRefusal(reason=reason, message=reason.lower()),
        )
        for reason in ("FIELD_INVALID", "STALE_ATTEMPT")
    ]
    response = pb.ReportResponse(results=refused)
    scripted.outbox.take([partial(job.answered, 0, response)], answering=True)
    stats = scripted.outbox.stats(scripted.batch)
    assert (stats.refused, stats.dropped, stats.waiting) == (1, 1, 0)
    assert document.stopped == "stale_attempt"
    assert scripted.batch.first_problem == "field_invalid"


def test_what_waits_is_counted_when_it_is_given_up() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    scripted.stage(document, r.STAGE_PARSING)
    scripted.outbox.give_up("away")
    scripted.stage(document, r.STAGE_SPLITTING)
    stats = scripted.outbox.stats(scripted.batch)
    assert (stats.waiting, stats.dropped) == (0, 2)
    assert scripted.outbox.idle


def test_jobs_change_nothing_before_they_are_answered() -> None:
    scripted = Scripted("a")
    scripted.outbox.begin_round()
    assert isinstance(scripted.outbox.next_job(), Open)
    assert isinstance(scripted.outbox.next_job(), Open)
    scripted.run()
    scripted.outbox.seal(scripted.batch)
    scripted.outbox.begin_round()
    assert isinstance(scripted.outbox.next_job(), Seal)
    assert not isinstance(scripted.outbox.next_job(), Heartbeat)


def test_documents_that_exist_with_other_content_do_not_keep_others_out() -> None:
    scripted = Scripted("old", "new")
    scripted.outbox.begin_round()
    registered = []
    while (job := scripted.outbox.next_job()) is not None:
        request: Any = job.calls()[0].request
        exists = isinstance(job, Register) and "old" in str(request)
        scripted.answer(job, DocumentExists("other content") if exists else None)
        if isinstance(job, Register) and not exists:
            registered += [new.document_id for new in request.documents]
    assert registered == ["new"]
    assert not scripted.batch.first_problem


def test_batch_that_never_came_into_being_is_not_waited_for_at_the_end() -> None:
    scripted = Scripted(mode=Mode.JOIN)
    scripted.run(Open=BatchNotFound("d", "b"))
    assert not scripted.batch.idle
    assert scripted.outbox.idle
