"""What answers change, decided without a server: starts, refusals, orders."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from stagecast.client.reporting.jobs import (
    Heartbeat,
    Open,
    Register,
    Report,
    Seal,
    StartAttempts,
)
from stagecast.client.reporting.queues import (
    Entry,
    Mode,
    Takeover,
)
from stagecast.errors import (
    BatchNotFound,
    BatchSealed,
    DocumentExists,
    DocumentNotFound,
    FieldInvalid,
)
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from tests.client.reporting.scripted_outbox import Scripted, refusal

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


def test_start_that_waits_when_the_server_goes_away_undoes_nothing() -> None:
    scripted = Scripted("a")
    document = scripted.document(takeover=Takeover.ALWAYS)
    scripted.outbox.went_offline("away")
    assert starts_of(scripted.run(StartAttempts=refusal("RUNNING"))) == [True]
    assert document.stopped


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
