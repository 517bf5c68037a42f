"""Batches, as the code of a pipeline sees them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from types import TracebackType
from typing import Self

from stagecast.client.records import NewDocument
from stagecast.client.reporting.core import ABSENT_S, SILENT_S, BatchCore
from stagecast.client.reporting.document import DocumentReporter
from stagecast.client.reporting.options import new_document
from stagecast.client.reporting.sharing import Sharing
from stagecast.client.reporting.stats import BatchStats

STRICT_S = 60.0  # for which a strict block waits at its end


class BatchFace:
    """What both kinds of batches have in common."""

    def __init__(self, core: BatchCore) -> None:
        self._core = core

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dataset_id!r}, {self.id!r})"

    @property
    def id(self) -> str:
        """The id of the batch, with which it is watched."""
        return self._core.options.batch_id

    @property
    def dataset_id(self) -> str:
        """The id of the dataset, a UUID."""
        return self._core.options.dataset_id

    @property
    def stats(self) -> BatchStats:
        """How many reports this process has delivered, and how many not."""
        return self._core.stats


class BatchReporter(BatchFace):
    """A batch, in the hands of this worker; made by `stagecast.batch` and `Reporter.batch`.

    Its `with` block creates it, and seals it at its end, also after an exception: then it ends once
    all its documents have. A block that finds it existing leaves that to the one that created it.
    """

    def __enter__(self) -> Self:
        self._core.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._core.leave()
        if self._core.behaviour.strict and error is None:
            self.flush(STRICT_S)

    def pending(self, *, follow: bool = False) -> Iterator[DocumentReporter]:
        """Yield the documents that have not succeeded, each to be worked on in its `with` block.

        Those that succeeded in an earlier run with the same batch id are left out. To know them it
        waits for the server, once: 0.2 s while nothing answers at its address, 2 s while something
        does. Without an answer it yields all.

        Args:
            follow: also yield documents that are added or retried, until the batch is over, and
                share it with other workers that do so: each document is yielded to one of them, as
                long as the server can be reached. What failed or was left open by an earlier run is
                yielded once it is retried. In the block that submits the documents, the batch is
                over when all of them have ended.

        Raises:
            stagecast.StagecastError: with `follow`, if the batch cannot be read, such as
                `stagecast.ScopeMissing` for a key that may only report.
        """
        self._core.open()
        return self._share() if follow else self._pending()

    def document(self, document: str | os.PathLike[str] | NewDocument) -> DocumentReporter:
        """Return a document by its id, and register it if the batch does not have it yet.

        A sealed batch takes no new documents: then its reports cannot be delivered.

        Raises:
            TypeError: it is no id, path or `NewDocument`.
        """
        new = new_document(document)
        return DocumentReporter(self._core, new, self._core.document(new))

    def flush(self, timeout: float | None = 30.0) -> bool:
        """Send what waits, and wait until all is recorded; return whether it is.

        Args:
            timeout: for how long to wait, in seconds; `None` for no limit.

        Raises:
            stagecast.NotDelivered: with `strict`, something is not.
        """
        engine, queue = self._core.engine, self._core.queue
        engine.hurry()
        unused = not self._core.opened
        done = engine.wait(lambda: unused or queue.idle, timeout) and not queue.lost
        self._core.check_flushed(done=done)
        return done

    def _pending(self) -> Iterator[DocumentReporter]:
        wait, outbox, queue = self._core.engine.wait, self._core.engine.outbox, self._core.queue
        for page in self._core.pages():
            self._wait_for_server()
            for new in page:
                if self._core.is_pending(new):
                    yield DocumentReporter(self._core, new, self._core.document(new, listed=True))
        if not self._core.submitted:
            self._core.survey()
            self._wait_for_server()
            wait(lambda: queue.ready or bool(outbox.offline), SILENT_S if outbox.reached else 0)
            for new in self._core.listed():
                if self._core.is_pending(new):
                    yield DocumentReporter(self._core, new, self._core.document(new))

    def _share(self) -> Iterator[DocumentReporter]:
        self._wait_for_server()
        wait = self._core.engine.wait
        with Sharing(self._core) as sharing:
            while True:
                new = sharing.next()
                if new is not None:
                    queue = self._core.document(new, shared=True)
                    sharing.claim(queue)
                    try:
                        wait(partial(sharing.answered, queue), None)
                    except BaseException:
                        sharing.abandon(queue)
                        raise
                    if sharing.has(queue):
                        yield DocumentReporter(self._core, new, queue)
                elif wait(sharing.over, 0):
                    return
                else:
                    wait(sharing.has_news, None)

    def _wait_for_server(self) -> None:
        """Wait until the server has answered, once, and not for long."""
        core, outbox = self._core, self._core.engine.outbox
        if core.waited:
            return
        core.waited = True
        wait = core.engine.wait
        wait(lambda: core.queue.ready or outbox.answering, ABSENT_S)
        if outbox.answering:
            wait(lambda: core.queue.ready, SILENT_S)
