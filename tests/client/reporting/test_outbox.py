"""What comes next, decided without a server: merging, order, times, limits."""

from __future__ import annotations

from collections import deque
from functools import partial

import pytest

from stagecast.client.records import NewDocument
from stagecast.client.reporting import outbox as module
from stagecast.client.reporting.jobs import (
    Report,
    StartAttempts,
)
from stagecast.client.reporting.queues import (
    BatchQueue,
    DocumentQueue,
    Entry,
    Mode,
    Step,
    Takeover,
)
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from tests.client.reporting.scripted_outbox import STAGES, Scripted, reports_of

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


def test_merged_counters_have_the_time_of_the_newest() -> None:
    scripted = Scripted("a")
    document = scripted.document()
    for number in (1, 2, 3):
        scripted.outbox.put(document, Entry(time_ns=number, completed=number))
    [report] = reports_of(scripted.run())
    assert (report.progress.completed_segments, report.event_time.nanos) == (3, 3)


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


def test_forked_child_still_knows_what_an_earlier_run_did() -> None:
    batch = Scripted("a").batch
    batch.succeeded, batch.left_behind = {"a"}, {"b"}
    batch.begin_anew()
    assert (batch.succeeded, batch.left_behind) == ({"a"}, {"b"})
    assert (batch.mode, batch.unregistered) == (Mode.ATTACH, deque())


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
