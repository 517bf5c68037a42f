"""Heartbeats, and what operators order by them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import stagecast
from stagecast import DocumentState
from tests.client.reporting.background import until

pytestmark = pytest.mark.usefixtures("running")


class Working:
    """A document that is worked on by a thread, which reports again and again.

    Attributes:
        reports: how many the thread has made.
        error: what ended them.
    """

    def __init__(self, batch: stagecast.BatchReporter) -> None:
        self._batch = batch
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.doc: Any = None
        self.reports = 0
        self.error: BaseException | None = None
        self._thread.start()

    def _work(self) -> None:
        for doc in self._batch.pending():
            self.doc = doc
            with doc:
                try:
                    while not self._done.wait(0.01):
                        doc.progress(self.reports)
                        self.reports += 1
                except stagecast.Stopped as error:
                    self.error = error
                    raise

    def more(self) -> None:
        """Wait for another report."""
        before = self.reports
        until(lambda: self.reports > before)

    def finish(self) -> None:
        """End the work."""
        self._done.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture
def batch(reporter: stagecast.Reporter) -> Iterator[stagecast.BatchReporter]:
    """A batch whose heartbeats are sent three times a second."""
    with reporter.batch("d", ["a"], stall_after=1) as batch:
        yield batch


def _until_cancelled(doc: stagecast.DocumentReporter) -> None:
    until(lambda: doc.cancelled)


def state_of(client: stagecast.Client, batch: stagecast.BatchReporter) -> DocumentState:
    return client.get_document("d", batch.id, "a").state


def test_paused_document_blocks_at_the_next_report_until_it_is_resumed(
    batch: stagecast.BatchReporter, client: stagecast.Client
) -> None:
    working = Working(batch)
    until(lambda: working.doc is not None and working.doc._document.attempt)
    client.pause("d", batch.id)
    until(lambda: working.doc._document.paused)
    working._thread.join(0.3)
    reports = working.reports
    working._thread.join(0.3)
    assert working.reports <= reports + 1
    assert state_of(client, batch) == "PAUSED"
    client.resume("d", batch.id)
    working.more()
    working.finish()
    assert batch.flush(60)
    assert state_of(client, batch) == "SUCCEEDED"


def test_stopped_document_raises_within_its_block_and_the_next_one_follows(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    worked = []
    with reporter.batch("d", ["a", "b"], stall_after=1) as batch:
        for doc in batch.pending():
            with doc:
                doc.parsing()
                worked.append(doc.id)
                if doc.id == "a":
                    assert batch.flush(60)
                    client.stop("d", batch.id, "a")
                    _until_cancelled(doc)
                    with pytest.raises(stagecast.Stopped, match="document 'a' is to end: it was"):
                        doc.splitting()
                    doc.splitting()
                    raise AssertionError("not reached")
            assert doc.cancelled == (doc.id == "a")
    assert worked == ["a", "b"]
    assert client.wait("d", batch.id, timeout=60).state == "PARTIALLY_SUCCEEDED"
    states = [document.state for document in client.list_documents("d", batch.id)]
    assert states == ["STOPPED", "SUCCEEDED"]


@pytest.mark.parametrize("grouped", [False, True])
def test_stop_that_came_through_another_object_ends_at_the_end_of_the_block(
    grouped: bool, batch: stagecast.BatchReporter, client: stagecast.Client
) -> None:
    [doc] = batch.pending()
    with doc:
        assert batch.flush(60)
        helper = batch.document("a")
        client.stop("d", batch.id)
        until(lambda: doc.cancelled)
        helper.parsing()
        until(lambda: helper.cancelled)
        try:
            helper.splitting()
        except stagecast.Stopped as error:
            if grouped:
                raise ExceptionGroup("of tasks", [error]) from None
            raise
    assert batch.flush(60)
    assert state_of(client, batch) == "STOPPED"
    assert batch.stats.dropped == 0


def test_document_that_another_worker_takes_is_stopped(
    batch: stagecast.BatchReporter, client: stagecast.Client, caplog: pytest.LogCaptureFixture
) -> None:
    working = Working(batch)
    until(lambda: working.doc is not None and working.doc._document.attempt)
    document = client.start_attempt("d", batch.id, "a", "other")
    until(lambda: working.error is not None)
    assert isinstance(working.error, stagecast.Stopped)
    assert working.error.document_id == "a"
    working.finish()
    assert batch.flush(60)
    after = client.get_document("d", batch.id, "a")
    assert (after.worker, after.attempt, after.state) == ("other", document.attempt, "RUNNING")
    assert batch.stats.dropped == 0
    assert not caplog.messages


def test_shielded_document_goes_on(reporter: stagecast.Reporter, client: stagecast.Client) -> None:
    with reporter.batch("d", ["a"], stall_after=1, obey=False) as batch:
        [doc] = batch.pending()
        with doc:
            doc.parsing()
            assert batch.flush(60)
            client.pause("d", batch.id)
            until(lambda: doc._document.paused)
            doc.splitting()
            assert batch.flush(60)
            client.stop("d", batch.id)
            until(lambda: doc.cancelled)
            doc.indexing()
    assert batch.flush(60)
    assert state_of(client, batch) == "STOPPED"
    assert batch.stats.refused == 2


def test_document_paused_before_it_starts_is_worked_on_after_it_is_resumed(
    batch: stagecast.BatchReporter, client: stagecast.Client
) -> None:
    assert batch.flush(60)
    client.pause("d", batch.id)
    working = Working(batch)
    until(lambda: working.doc is not None and working.doc._document.waiting_start)
    client.resume("d", batch.id)
    until(lambda: working.doc._document.attempt)
    working.more()
    working.finish()
    assert batch.flush(60)
    assert state_of(client, batch) == "SUCCEEDED"


def test_document_stopped_before_it_starts_is_not_started_again(
    batch: stagecast.BatchReporter, client: stagecast.Client
) -> None:
    documents = batch.pending()
    doc = next(documents)
    assert batch.flush(60), "it is registered"
    client.stop("d", batch.id)
    with doc:
        doc.parsing()
        until(lambda: doc.cancelled)
        doc.splitting()
    assert state_of(client, batch) == "STOPPED"


@pytest.mark.slow
def test_silent_worker_keeps_its_document_from_stalling(
    batch: stagecast.BatchReporter, client: stagecast.Client
) -> None:
    [doc] = batch.pending()
    with doc:
        assert batch.flush(60)
        planned = {0.0}

        def planned_often() -> bool:
            planned.add(doc._document.batch.heartbeat_at)
            return len(planned) > 6

        until(planned_often)
    assert batch.flush(60)
    kinds = [event.kind for event in client.history("d", batch.id, "a")]
    if "STALLED" in kinds:  # on a busy machine a heartbeat may be late; it recovers by the next
        assert "RECOVERED" in kinds or kinds[-1] == "SUCCEEDED"
    assert state_of(client, batch) == "SUCCEEDED"


@pytest.mark.slow
def test_document_without_progress_stalls_although_its_worker_lives(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch("d", ["a"], stall_after=1, stall_on_no_progress="1s") as batch:
        [doc] = batch.pending()
        with doc:
            doc.parsing()
            assert batch.flush(60)
            until(lambda: client.get_document("d", batch.id, "a").stalled)
            doc.splitting()
            assert batch.flush(60)
            assert not client.get_document("d", batch.id, "a").stalled
    assert batch.flush(60)
    assert state_of(client, batch) == "SUCCEEDED"
