"""`Outbox`: what a reporter has still to send, and which call comes next.

A state machine without I/O. Many threads put reports into it, one takes jobs from it. All its state
is guarded by one lock, which is never held while something waits. A signal handler may raise an
exception anywhere, such as Ctrl-C or a time limit of Celery; what it leaves half done is mended
once all else is sent.

Order: a batch is opened before its documents are registered, these before attempts are started, and
the reports of a document wait for its attempt. When the outbox is full, counters are dropped first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from stagecast.client.records import NewDocument
from stagecast.client.reporting.jobs import (
    MAX_REPORTS,
    Heartbeat,
    Job,
    Open,
    Register,
    Report,
    Seal,
    StartAttempts,
    Survey,
)
from stagecast.client.reporting.queues import (
    BatchQueue,
    DocumentQueue,
    Entry,
    Mode,
    Start,
    Takeover,
)
from stagecast.client.reporting.stats import BatchStats
from stagecast.escaping import quote

FLUSH_S = 0.2  # the longest time that a report waits
MAX_ENTRIES = 100_000  # reports and starts: some 50 MB

_log = logging.getLogger("stagecast")


class Journal(Protocol):
    """Keeps what waits, for a process that is killed."""

    def write(self, batch: BatchQueue, kind: str, **fields: object) -> int:
        """Write a line, and return its number."""
        ...

    def done(self, number: int, **fields: object) -> None:
        """Note that a line need not be sent again."""
        ...


def _nothing() -> None:
    pass


class Outbox:
    """What a reporter has still to send.

    Args:
        journal: keeps a copy, if there is one.
        limit: of reports and starts that wait.
        now: the monotonic clock.
        wake: called when there is something to send earlier than before.

    Attributes:
        lock: guards everything. Its `with` block, unlike that of a condition, cannot be interrupted
            after the lock is acquired and before the block begins.
        changed: notified after each answer.
        due: notified when there is something to send earlier than before.
        reached: whether the server has ever answered.
        answering: whether something accepts connections at the address.
        offline: why the server cannot be reached, empty while nothing has failed.
    """

    def __init__(
        self,
        *,
        journal: Journal | None = None,
        limit: int | None = None,
        now: Callable[[], float] = time.monotonic,
        wake: Callable[[], None] = _nothing,
    ) -> None:
        self.lock = threading.RLock()  # a signal handler may report, too
        self.changed = threading.Condition(self.lock)
        self.due = threading.Condition(self.lock)
        self.reached = False
        self.answering = False
        self.offline = ""
        self.now = now
        self._wake = wake
        self._journal = journal
        self._limit = MAX_ENTRIES if limit is None else limit
        self._batches: dict[BatchQueue, None] = {}
        self._newest: dict[tuple[str, str, str], DocumentQueue] = {}
        self._may_have_counters = False
        self._due_at: float | None = None
        self._listeners: set[Callable[[], None]] = set()

    # What faces do.

    def open(self, batch: BatchQueue) -> None:
        """Open a batch."""
        with self.lock:
            self._batches[batch] = None
            if batch.mode is not Mode.ATTACH:
                batch.number = self._write(batch, "open")
            self._send_now()

    def register(self, batch: BatchQueue, documents: Iterable[NewDocument]) -> None:
        """Register documents, which may be registered already."""
        with self.lock:
            self._batches[batch] = None
            for new in documents:
                batch.unregistered.append((new, self._write(batch, "document", new=new)))
            self._send_soon()

    def start(self, document: DocumentQueue, takeover: Takeover, *, at_once: bool = False) -> None:
        """Start an attempt at a document, before the reports that follow."""
        with self.lock:
            self._batches[document.batch] = None
            if document.refused or document.batch.lost:
                return
            if self._is_full():
                self.refuse(document, "the buffer is full")
                return
            number = self._write(
                document.batch,
                "start",
                document_id=document.document_id,
                worker=document.worker,
                takeover=takeover.value,
            )
            self._queue_up(document)
            document.batch.documents[document] = None
            document.attempt = 0
            document.start = Start(takeover=takeover, offline=bool(self.offline), number=number)
            document.batch.changed[document] = None
            self._send_now() if at_once else self._send_soon()

    def put(self, document: DocumentQueue, entry: Entry) -> None:
        """Add a report; counters replace those that wait."""
        with self.lock:
            batch = document.batch
            self._batches[batch] = None
            if document.refused or batch.lost:
                self._refused_before(document)
                return
            newest = document.last
            if entry.only_counts and newest is not None and newest.only_counts:
                newest.merge(entry)
                return
            if self._is_full() and not self._made_room(document, entry):
                self.undelivered(batch, "the buffer is full")
                return
            if newest is not None and newest.only_counts and newest in document.entries:
                newest.number = self._write_report(document, newest)
            if not entry.only_counts:
                entry.number = self._write_report(document, entry)
            self._queue_up(document)
            batch.documents[document] = None
            document.entries.append(entry)
            batch.changed[document] = None
            document.ended = document.ended or entry.ends
            batch.waiting += 1
            self._may_have_counters |= entry.only_counts
            self._send_soon()

    def work_on(self, document: DocumentQueue) -> None:
        """Send heartbeats for a document."""
        with self.lock:
            document.open = True
            document.batch.documents[document] = None
            document.batch.active[document] = None

    def close(self, document: DocumentQueue) -> None:
        """Send no more heartbeats for a document."""
        with self.lock:
            document.open = False
            if not document.waiting_start:
                document.batch.active.pop(document, None)
            self.forget(document)

    def cancel(self, document: DocumentQueue) -> None:
        """Take back a start that is not answered."""
        with self.lock:
            self._discard(document, "it was not started")

    def seal(self, batch: BatchQueue) -> None:
        """Seal a batch after all that waits, if that is for this block to do."""
        with self.lock:
            if batch.lost or (batch.opened and not (batch.created or batch.submitted)):
                return
            self._batches[batch] = None
            batch.seal = True
            batch.seal_number = self._write(batch, "seal")
            self._send_soon()

    def survey(self, batch: BatchQueue) -> None:
        """Read which documents the batch has already."""
        with self.lock:
            if not batch.lost:
                self._batches[batch] = None
                batch.survey = ""
                self._send_now()

    def flush(self) -> None:
        """Send at once what waits."""
        with self.lock:
            self._send_now()

    def leave(self, batch: BatchQueue) -> None:
        """Forget a batch once all of it is sent."""
        with self.lock:
            batch.left = True
            for document in [*batch.documents]:
                self.forget(document)

    def stats(self, batch: BatchQueue) -> BatchStats:
        """Return the numbers of reports of a batch."""
        with self.lock:
            return BatchStats(
                delivered=batch.delivered,
                waiting=batch.waiting,
                refused=batch.refused,
                dropped=batch.dropped,
            )

    @contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call a function after each change, on the thread that makes it."""
        with self.lock:
            self._listeners.add(listener)
        try:
            yield
        finally:
            with self.lock:
                self._listeners.discard(listener)

    # What the sender does.

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self.waiting

    @property
    def waiting(self) -> list[BatchQueue]:
        """The batches of which something waits."""
        return [batch for batch in self._batches if not batch.empty]

    def pause_s(self) -> float | None:
        """Return the time until there is something to do, `None` without limit."""
        times = [] if self._due_at is None else [self._due_at]
        now = self.now()
        for batch in self._batches:
            if batch.opened and batch.alive(now):
                times.append(batch.heartbeat_at)
            elif not batch.opened and batch.retry_at and not batch.lost:
                times.append(batch.retry_at)
        return max(0.0, min(times) - now) if times else None

    def begin_round(self) -> None:
        """Begin to send all that waits now; what comes meanwhile waits for the next round."""
        with self.lock:
            self._due_at = None
            for batch in self._batches:
                batch.in_round = True
                behind = {document: None for document in batch.changed if document.follows}
                for document in batch.changed:
                    if document in behind or document.waiting_start:
                        continue
                    if document.start is not None:
                        batch.starting[document] = None
                    elif document.entries:  # they may have been sent in the last round
                        batch.reporting[document] = None
                batch.changed = behind
                if behind:
                    self._send_soon()

    def next_job(self) -> Job | None:
        """Return the next call to make in this round."""
        with self.lock:
            for batch in [*self._batches]:
                if batch.finished and (batch.lost or batch.left):
                    del self._batches[batch]
                    continue
                job = self._job_of(batch)
                if job is not None:
                    return job
            return None

    def take(self, results: Iterable[Callable[[], None]], *, answering: bool) -> None:
        """Apply the answers to a job."""
        with self.notifying():
            for apply in results:
                apply()
            if answering:
                self.reached = self.answering = True
                self.offline = ""

    def went_offline(self, why: str) -> None:
        """Note that the server is away: from now on starts take only what is pending."""
        with self.notifying():
            if not self.offline:  # else all starts know it
                for batch in self._batches:
                    for document in batch.documents:
                        if document.start is not None:
                            document.start.go_offline()
            self.offline = why
            self._due_at = self.now()

    def give_up(self, why: str) -> None:
        """Count all that waits as undelivered."""
        with self.notifying():
            for batch in self.waiting:
                self.lose(batch, why)

    # What jobs do, under the lock.

    def done(self, number: int, **fields: object) -> None:
        """Note that something need not be sent again."""
        if self._journal is not None and number:
            self._journal.done(number, **fields)

    def stop(self, document: DocumentQueue, why: str) -> None:
        """Note that work on a document is to end."""
        document.stopped = document.stopped or why
        document.paused = False
        if document.start is not None:
            document.batch.refused += self._discard(document, why)

    def refuse(self, document: DocumentQueue, why: str) -> None:
        """Note that nothing on a document can be delivered."""
        why = f"document {quote(document.document_id)}: {why}"
        self.undelivered(document.batch, why, reports=0)
        document.batch.dropped += self._discard(document, why)

    def undelivered(self, batch: BatchQueue, why: str, *, reports: int = 1) -> None:
        """Count reports that cannot be delivered, and say so once for each batch."""
        batch.dropped += reports
        batch.first_problem = batch.first_problem or why
        if not (batch.warned or batch.strict):
            batch.warned = True
            _log.warning(
                "reports of batch %s could not be delivered: %s (batch.stats has the numbers)",
                batch.options.batch_id,
                why,
            )

    def lose(self, batch: BatchQueue, why: str) -> None:
        """Give up a batch."""
        for number in batch.numbers():
            self.done(number)
        for document in batch.documents:
            self._newest.pop(document.key, None)
        self.undelivered(batch, why, reports=batch.lose(why))

    def forget(self, document: DocumentQueue) -> None:
        """Drop a document of which nothing waits and nothing will come."""
        batch = document.batch
        if not document.waits and not document.open:
            batch.documents.pop(document, None)
            batch.active.pop(document, None)
            if self._newest.get(document.key) is document:
                del self._newest[document.key]

    # Helpers.

    @contextmanager
    def notifying(self) -> Iterator[None]:
        """Guard a change that others may wait for, and tell them."""
        with self.lock:
            yield
            self.changed.notify_all()
            for listener in self._listeners:
                listener()

    def _queue_up(self, document: DocumentQueue) -> None:
        """Put a queue behind the one of the same document in which something waits already."""
        if document.waits:
            return
        document.turn += 1
        before = self._newest.get(document.key)
        if before is not None and before is not document and before.waits:
            document.after = before, before.turn
        self._newest[document.key] = document

    def _may_survey(self, batch: BatchQueue) -> bool:
        """Return whether all is sent that this process had reported before."""
        others = (other for other in self._batches if other is not batch)
        return batch.in_round and not any(o.sends for o in others if o.key == batch.key)

    def _job_of(self, batch: BatchQueue) -> Job | None:
        now = self.now()
        if batch.lost:
            return None
        if not batch.opened:
            return Open(self, batch) if now >= batch.retry_at else None
        if batch.survey is not None:
            if self._may_survey(batch):
                return Survey(self, batch)
            self._send_soon()
        if batch.unregistered:
            return Register(self, batch)
        if now >= batch.heartbeat_at and (alive := batch.alive(now)):
            return Heartbeat(self, batch, alive)
        if batch.starting:
            return StartAttempts(self, batch)
        if batch.reporting:
            return Report(self, batch)
        if batch.mend():
            self._send_soon()
            self.changed.notify_all()
        if batch.seal and batch.sent:
            return Seal(self, batch)
        return None

    def _send_soon(self) -> None:
        if self._due_at is None:
            self._due_by(self.now() + FLUSH_S)
        elif self._waiting >= MAX_REPORTS and not self.offline:
            self._send_now()

    def _send_now(self) -> None:
        self._due_by(self.now())

    def _due_by(self, time: float) -> None:
        if self._due_at is None or time < self._due_at:
            self._wake()
            self.due.notify_all()
            self._due_at = time  # last: if this is interrupted, the next report does it

    @property
    def _waiting(self) -> int:
        return sum(batch.waiting for batch in [*self._batches])  # a handler may open another

    def _is_full(self) -> bool:
        return self._waiting >= self._limit

    def _made_room(self, document: DocumentQueue, entry: Entry) -> bool:
        """Return whether there is room for a report, after something else was dropped for it."""
        if self._may_have_counters:
            for batch in self._batches:
                for other in batch.documents:
                    self._drop(batch, other.drop_counters())
            self._may_have_counters = False
        if not self._is_full():
            return True
        newest = document.last
        if newest is None or newest.ends or entry.only_counts:
            return False
        document.entries.pop()  # a stage may be skipped; the one that comes later says more
        self.done(newest.number)
        self._drop(document.batch, 1)
        return True

    def _drop(self, batch: BatchQueue, dropped: int) -> None:
        if dropped:
            batch.waiting -= dropped
            self.undelivered(batch, "the buffer is full", reports=dropped)

    def _discard(self, document: DocumentQueue, why: str) -> int:
        """Drop what waits of a document, and take nothing more."""
        discarded = len(document.entries)
        for entry in document.entries:
            self.done(entry.number)
        if document.start is not None:
            self.done(document.start.number)
        document.entries.clear()
        document.sending = 0
        document.start = None
        document.refused = why
        document.batch.waiting -= discarded
        for queue in (document.batch.starting, document.batch.reporting, document.batch.changed):
            queue.pop(document, None)
        self.forget(document)
        return discarded

    def _refused_before(self, document: DocumentQueue) -> None:
        if document.stopped:
            document.batch.refused += 1
        else:
            self.undelivered(document.batch, document.refused or document.batch.lost)

    def _write(self, batch: BatchQueue, kind: str, **fields: object) -> int:
        return self._journal.write(batch, kind, **fields) if self._journal else 0

    def _write_report(self, document: DocumentQueue, entry: Entry) -> int:
        names = {"document_id": document.document_id, "worker": document.worker}
        return self._write(document.batch, "report", **names, attempt=document.attempt, entry=entry)
