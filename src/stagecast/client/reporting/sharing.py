"""Workers that share a batch: which document is the next to claim, and when there is none left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from stagecast.client.records import NewDocument
from stagecast.client.reporting.core import BatchCore
from stagecast.client.reporting.follower import Follower
from stagecast.client.reporting.queues import DocumentQueue, Takeover
from stagecast.errors import CredentialsError, DeniedError


class Sharing:
    """One iteration over the documents of a batch that is followed.

    While the server can be reached, documents come from the watch, those of this block as well, and
    each is claimed before it is yielded. While it is away, those of this block come unclaimed.
    """

    def __init__(self, core: BatchCore) -> None:
        self._core = core
        self._outbox = core.engine.outbox
        self._follower = Follower(core.engine, core.options)
        self._pages: Iterator[list[NewDocument]] | None = core.pages()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.close()

    def next(self) -> NewDocument | None:
        """Return the next document to claim, `None` if there is none now.

        Raises:
            DeniedError, CredentialsError: the key may not read.
        """
        with self._outbox.changed:
            new = self._candidate()
            draws = new is None and self._can_draw()
        return self.next() if draws and self._draw() else new

    def has_news(self) -> bool:
        """Return whether `next` or `over` may have changed."""
        return self._candidate(peek=True) is not None or self._can_draw() or self.over()

    def over(self) -> bool:
        """Return whether no document will come any more."""
        follower, queue = self._follower, self._core.queue
        if follower.over or queue.lost:
            if isinstance(follower.error, DeniedError | CredentialsError):
                raise follower.error
            return True
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
        return not (document.stopped or document.refused)

    def _candidate(self, *, peek: bool = False) -> NewDocument | None:
        follower, queue = self._follower, self._core.queue
        if queue.opened:
            follower.start()
        busy = {document.document_id for document in queue.documents}
        for document_id in follower.pending:
            if document_id not in busy:
                return self._pick(document_id, peek=peek)
        if not queue.opened or self._outbox.offline:
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
        unanswered = queue.opened and not self._outbox.offline and queue.unregistered
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
                if self._core.is_pending(new) and new.document_id not in self._follower.started:
                    self._follower.unclaimed[new.document_id] = new
        return True
