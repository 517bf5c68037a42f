"""What both kinds of batches do without waiting: open, register, take up documents, leave."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sized

from stagecast.client.records import NewDocument
from stagecast.client.reporting.engine import Engine
from stagecast.client.reporting.options import (
    BatchOptions,
    Behaviour,
    Documents,
    new_document,
    problem_of,
)
from stagecast.client.reporting.queues import BatchQueue, DocumentQueue, Mode, Takeover
from stagecast.client.reporting.stats import BatchStats
from stagecast.errors import NotDelivered

_PAGE = 100  # documents that are drawn at a time


class BatchCore:
    """A batch, as its faces see it.

    Args:
        engine: sends.
        options: what to create.
        mode: how to open it.
        documents: its documents, `None` if others register them.
        behaviour: of its documents.

    Attributes:
        waited: whether `pending` has waited for the server.
        submitted: whether the batch was told its documents.
        opened: whether it was used at all.
    """

    def __init__(
        self,
        engine: Engine,
        options: BatchOptions,
        mode: Mode,
        documents: Documents | None,
        behaviour: Behaviour,
    ) -> None:
        self.engine = engine
        self.options = options
        self.behaviour = behaviour
        self.waited = False
        self._queue = BatchQueue(options, mode, strict=behaviour.strict)
        self._queue.submitted = self.submitted = documents is not None
        self._generation = engine.generation
        self._worker = engine.next_worker()
        self._shared_worker = ""
        self.opened = False
        self._registered: list[NewDocument] = []
        self._unread: Iterator[NewDocument] = map(new_document, documents or ())
        if isinstance(documents, Sized):
            self._registered += self._unique(self._unread)

    @property
    def queue(self) -> BatchQueue:
        """What waits of the batch in this process."""
        if self._generation != self.engine.generation:
            self._generation = self.engine.generation
            self._worker, self._shared_worker = self.engine.next_worker(), ""
            self._queue.begin_anew()
        return self._queue

    @property
    def stats(self) -> BatchStats:
        """The numbers of reports so far."""
        return self.engine.outbox.stats(self.queue)

    def open(self) -> None:
        """Open the batch, once."""
        if not self.opened:
            self.engine.outbox.open(self.queue)
            self._register(self._registered)
            self.opened = True

    def pages(self) -> Iterator[list[NewDocument]]:
        """Yield the documents of the batch; those of an iterator are drawn and registered."""
        if self._registered:
            yield self._registered
        while page := self._unique(itertools.islice(self._unread, _PAGE)):
            self._register(page)
            yield page

    def listed(self) -> list[NewDocument]:
        """Return the documents that the server has listed."""
        return [NewDocument(document_id=document_id) for document_id in self.queue.listed]

    def is_pending(self, new: NewDocument) -> bool:
        """Return whether a document has not succeeded, as far as is known."""
        return new.document_id not in self.queue.succeeded

    def document(
        self, new: NewDocument, *, shared: bool = False, listed: bool = False
    ) -> DocumentQueue:
        """Return a queue for the reports on a document.

        Args:
            new: the document.
            shared: whether workers share the batch.
            listed: whether it is of `pages`, which have registered it.

        Raises:
            ValueError: its id is invalid, and problems are to be raised.
        """
        queue = self.queue
        document = DocumentQueue(queue, new.document_id, self._worker_of(shared=shared))
        if problem := problem_of(new):
            if self.behaviour.strict:
                raise ValueError(f"invalid document {new.document_id!r}: {problem}")
            with self.engine.outbox.changed:
                self.engine.outbox.refuse(document, problem)
        document.registered = listed and queue.submitted  # not in a forked child
        document.takeover = self._takeover(new.document_id, shared=shared)
        return document

    def register(self, new: NewDocument) -> None:
        """Register a document that may be registered already."""
        self.open()
        self._register([new])

    def survey(self) -> None:
        """Ask which documents the batch has, if they were not submitted here."""
        self.engine.outbox.survey(self.queue)

    def leave(self) -> None:
        """End the block of the batch."""
        outbox, queue = self.engine.outbox, self.queue
        if self.opened:
            outbox.seal(queue)
        outbox.leave(queue)

    def raise_problem(self) -> None:
        """Raise an error for undelivered reports, with `strict`.

        Raises:
            NotDelivered: something could not be delivered.
        """
        problem = self.queue.first_problem
        if problem and self.behaviour.strict:
            raise NotDelivered(
                f"reports of batch {self.options.batch_id} could not be delivered: {problem}",
                dataset_id=self.options.dataset_id,
                batch_id=self.options.batch_id,
            )

    def flush(self) -> Callable[[], bool]:
        """Send at once what waits; return the condition that nothing waits any more."""
        queue, unused = self.queue, not self.opened
        self.engine.hurry()
        return lambda: unused or queue.idle

    def check_flushed(self, *, idle: bool) -> bool:
        """Return whether all could be delivered; raise an error if not, with `strict`.

        Args:
            idle: whether nothing waits any more.

        Raises:
            NotDelivered: something could not be delivered, or not in time.
        """
        done = idle and not self.queue.lost
        if self.behaviour.strict and not done:
            with self.engine.outbox.changed:
                why = self.engine.outbox.offline or "the server did not answer in time"
                self.queue.first_problem = self.queue.first_problem or why
        self.raise_problem()
        return done

    def _register(self, news: Iterable[NewDocument]) -> None:
        valid = [new for new in news if problem_of(new) is None]
        if valid:
            self.engine.outbox.register(self.queue, valid)

    def _unique(self, news: Iterable[NewDocument]) -> list[NewDocument]:
        return [*{new.document_id: new for new in news}.values()]

    def _worker_of(self, *, shared: bool) -> str:
        """Return the name of the worker, which no other block has if they share documents."""
        if not shared:
            return self._worker
        self._shared_worker = self._shared_worker or self.engine.next_worker(shared=True)
        return self._shared_worker

    def _takeover(self, document_id: str, *, shared: bool) -> Takeover:
        if shared:
            return Takeover.NEVER
        if document_id in self.queue.left_behind:
            return Takeover.ALWAYS
        return Takeover.OPEN_OR_FAILED
