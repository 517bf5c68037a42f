"""Workers that share a batch: which document is the next to claim, and when there is none left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from stagecast.client.records import NewDocument
from stagecast.client.reporting.core import BatchCore
from stagecast.client.reporting.follower import Follower
from stagecast.client.reporting.options import problem_of
from stagecast.client.reporting.queues import DocumentQueue, Takeover
from stagecast.errors import NotFoundError, StagecastError


class Sharing:
    """One iteration over the documents of a batch that is followed.

    While the server can be reached, all documents come from the watch, and each is claimed before
    it is yielded. While it is away, the documents of this block are yielded without a claim. So are
    those that the server does not accept, such as with an invalid id.
    """

    def __init__(self, core: BatchCore) -> None:
        self._core = core
        self._outbox = core.engine.outbox
        self._follower = Follower(core.engine, core.options)
        self._pages: Iterator[list[NewDocument]] | None = core.pages()
        self._unknown: dict[str, NewDocument] = {}  # that the server does not take
        self._worked_on: set[str] = set()  # of those

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.close()

    def next(self) -> NewDocument | None:
        """Return the next document to claim, `None` if there is none now.

        Raises:
            StagecastError: see `over`.
        """
        with self._outbox.changed:
            new = self._candidate()
            draws = new is None and self._can_draw()
        return self.next() if draws and self._draw() else new

    def has_news(self) -> bool:
        """Return whether `next` or `over` may have changed."""
        return self._candidate(peek=True) is not None or self._can_draw() or self._is_over()

    def over(self) -> bool:
        """Return whether no document will come any more.

        Raises:
            StagecastError: the batch cannot be read, such as with a key that may not.
        """
        return self._is_over() and not self._left_over()

    def _left_over(self) -> bool:
        """Return whether documents of this block are unknown to the batch; they come now."""
        self._unknown.update(self._follower.unclaimed)
        self._follower.unclaimed.clear()
        return bool(self._unknown)

    def _is_over(self) -> bool:
        follower, queue = self._follower, self._core.queue
        if follower.over or queue.lost:
            if isinstance(follower.error, StagecastError) and not isinstance(
                follower.error, NotFoundError
            ):
                raise follower.error
            return self._pages is None
        if self._pages is not None:
            return False
        if not self._outbox.reached:
            return bool(self._outbox.offline) and not follower.unclaimed
        ended = follower.open_documents == 0 and follower.revision >= queue.revision
        return self._core.submitted and queue.sent and follower.revision > 0 and ended

    def claim(self, document: DocumentQueue) -> None:
        """Ask for a document, which another worker may have been given meanwhile."""
        document.registered = True
        self._outbox.start(document, Takeover.NEVER, at_once=True)

    def abandon(self, document: DocumentQueue) -> None:
        """Take back a claim that nobody waits for any more."""
        if document.start is not None:
            self._outbox.cancel(document)

    def answered(self, document: DocumentQueue) -> bool:
        """Return whether to wait no longer for a document."""
        return document.start is None or document.paused or bool(self._outbox.offline)

    def has(self, document: DocumentQueue) -> bool:
        """Return whether a document is for this worker to work on."""
        if document.waiting_start:
            self.abandon(document)  # it comes again once it is resumed
        unknown = document.document_id in self._worked_on
        return not document.stopped and (unknown or not document.refused)

    def _candidate(self, *, peek: bool = False) -> NewDocument | None:
        follower, queue = self._follower, self._core.queue
        if queue.opened:
            follower.start()
        for document_id in self._unknown:
            if not peek:
                self._worked_on.add(document_id)
                return self._unknown.pop(document_id)
            return self._unknown[document_id]
        busy = {document.document_id for document in queue.documents}
        for document_id in follower.pending:
            if document_id not in busy:
                return self._pick(document_id, peek=peek)
        if not queue.opened or queue.lost or self._outbox.offline:
            for document_id in follower.unclaimed:
                return self._pick(document_id, peek=peek)
        return None

    def _pick(self, document_id: str, *, peek: bool) -> NewDocument:
        follower = self._follower
        new = follower.unclaimed.get(document_id) or NewDocument(document_id=document_id)
        if not peek:
            follower.pending.pop(document_id, None)
            follower.unclaimed.pop(document_id, None)
        return new

    def _can_draw(self) -> bool:
        """Return whether it is time to draw more documents: those before are registered."""
        queue = self._core.queue
        away = self._outbox.offline or queue.lost
        unanswered = queue.opened and not away and queue.unregistered
        return self._pages is not None and not unanswered

    def _draw(self) -> bool:
        """Draw another page of documents; return whether there was one."""
        if self._pages is None:
            return False
        page = next(self._pages, None)
        if page is None:
            self._pages = None
            return False
        with self._outbox.changed:
            for new in page:
                if problem_of(new):
                    self._unknown[new.document_id] = new
                elif self._core.is_pending(new) and new.document_id not in self._follower.started:
                    self._follower.unclaimed[new.document_id] = new
        return True
