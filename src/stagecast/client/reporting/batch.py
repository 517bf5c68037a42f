"""Batches, as the code of a pipeline sees them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from stagecast.client.records import NewDocument
from stagecast.client.reporting.core import BatchCore
from stagecast.client.reporting.document import DocumentCore, DocumentReporter
from stagecast.client.reporting.options import new_document
from stagecast.client.reporting.pending import Steps, Wait, steps_of
from stagecast.client.reporting.stats import BatchStats

DocumentT = TypeVar("DocumentT", bound=DocumentCore)

STRICT_S = 60.0  # that a strict block waits at its end


class BatchFace(Generic[DocumentT]):
    """What both kinds of batches have in common."""

    _document_class: type[DocumentT]

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

    def document(self, document: str | os.PathLike[str] | NewDocument) -> DocumentT:
        """Return a document by its id, and register it if the batch does not have it yet.

        A sealed batch takes no new documents: then its reports cannot be delivered.

        Raises:
            TypeError: it is not an id, a path or a `NewDocument`.
        """
        new = new_document(document)
        return self._document_class(self._core, new, self._core.document(new))


class BatchReporter(BatchFace[DocumentReporter]):
    """A batch, to report on; made by `stagecast.batch` and `Reporter.batch`.

    Its `with` block creates it, and seals it at its end, also after an exception: a sealed batch
    ends once all its documents have. A batch that exists already is sealed by the block that has
    created it.
    """

    _document_class = DocumentReporter

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

        Those that succeeded in an earlier run with the same batch id are left out. To learn which
        these are, it waits for the server once: 0.2 s if nothing answers at its address, 2 s if
        something does. Without an answer it yields all.

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
        return self._documents(steps_of(self._core, follow=follow))

    def flush(self, timeout: float | None = 30.0) -> bool:
        """Send what waits, and wait until all is recorded; return whether it is.

        Args:
            timeout: for how long to wait, in seconds; `None` for no limit.

        Raises:
            stagecast.NotDelivered: with `strict`, something is not.
        """
        idle = self._core.engine.wait(self._core.flush(), timeout)
        return self._core.check_flushed(idle=idle)

    def _documents(self, steps: Steps) -> Iterator[DocumentReporter]:
        with contextlib.closing(steps):
            for step in steps:
                if isinstance(step, Wait):
                    self._core.engine.wait(step.condition, step.limit_s)
                else:
                    yield DocumentReporter(self._core, step.new, step.queue)
