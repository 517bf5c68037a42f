"""`AsyncReporter`: the same for event loops; where a `Reporter` blocks, it is awaited."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Self, TypeVar

from stagecast.client.reporting.batch import STRICT_S, BatchFace
from stagecast.client.reporting.document import DocumentCore
from stagecast.client.reporting.pending import Steps, Wait, steps_of
from stagecast.client.reporting.reporter import ReporterFace
from stagecast.v1 import resources_pb2 as r

T = TypeVar("T")


class AsyncDocumentReporter(DocumentCore):
    """A document of a batch, as `DocumentReporter`, with `await` before each report.

    Reports never wait for the server; a task that is paused waits without blocking the loop.
    """

    async def __aenter__(self) -> Self:
        self._enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return self._leave(error)

    async def parsing(self) -> None:
        """Report that parsing begins."""
        await self._obey()
        self._enter_stage(r.STAGE_PARSING)

    async def cleaning(self) -> None:
        """Report that cleaning begins."""
        await self._obey()
        self._enter_stage(r.STAGE_CLEANING)

    async def splitting(self) -> None:
        """Report that splitting into chunks begins."""
        await self._obey()
        self._enter_stage(r.STAGE_SPLITTING)

    async def indexing(self, total: int | None = None) -> None:
        """Report that indexing begins; `total` is the number of chunks, if it is known."""
        await self._obey()
        self._enter_stage(r.STAGE_INDEXING, total)

    async def track(
        self, items: Iterable[T] | AsyncIterator[T], total: int | None = None
    ) -> AsyncIterator[T]:
        """Yield each item, and count it as an indexed chunk when the loop asks for the next.

        Args:
            items: such as the chunks of the document, also from an asynchronous iterator.
            total: how many there are, by default their length if they have one.
        """
        await self._obey()
        if self._begin_tracking(items, total):
            self._enter_stage(r.STAGE_INDEXING, self._total)
        async for item in _iterate(items):
            yield item
            await self._obey()
            self._count(self._completed + 1, None)

    async def progress(self, completed: int, total: int | None = None) -> None:
        """Report how many chunks are indexed, and how many there are if that is known."""
        await self._obey()
        self._count(completed, total)

    async def step(self, name: str, completed: int, total: int | None = None) -> None:
        """Report what goes on within the stage, such as `await doc.step("pages", 3, 12)`."""
        await self._obey()
        self._set_step(name, completed, total)

    async def fail(self, reason: str, message: str = "") -> None:
        """End the document as FAILED; what is reported on it afterwards is ignored.

        Args:
            reason: for programs, in UPPER_SNAKE, such as `NO_TEXT`.
            message: for people.
        """
        await self._obey()
        self._fail(reason, message)

    async def _obey(self) -> None:
        while self._must_pause():
            await self._core.engine.wait_async(self._is_resumed, None)


class AsyncBatchReporter(BatchFace[AsyncDocumentReporter]):
    """A batch, as `BatchReporter`, to be used in an `async with` block."""

    _document_class = AsyncDocumentReporter

    async def __aenter__(self) -> Self:
        self._core.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._core.leave()
        if self._core.behaviour.strict and error is None:
            await self.flush(STRICT_S)

    def pending(self, *, follow: bool = False) -> AsyncIterator[AsyncDocumentReporter]:
        """Yield the documents that have not succeeded; see `BatchReporter.pending`.

        Args:
            follow: also yield what is added or retried, and share it with other workers.

        Raises:
            stagecast.StagecastError: see there.
        """
        self._core.open()
        return self._documents(steps_of(self._core, follow=follow))

    async def flush(self, timeout: float | None = 30.0) -> bool:  # noqa: ASYNC109 - as `BatchReporter`
        """Send what waits, and wait until all is recorded; return whether it is.

        Args:
            timeout: for how long to wait, in seconds; `None` for no limit.

        Raises:
            stagecast.NotDelivered: with `strict`, something is not.
        """
        idle = await self._core.engine.wait_async(self._core.flush(), timeout)
        return self._core.check_flushed(idle=idle)

    async def _documents(self, steps: Steps) -> AsyncIterator[AsyncDocumentReporter]:
        with contextlib.closing(steps):
            for step in steps:
                if isinstance(step, Wait):
                    await self._core.engine.wait_async(step.condition, step.limit_s)
                else:
                    yield AsyncDocumentReporter(self._core, step.new, step.queue)


class AsyncReporter(ReporterFace[AsyncBatchReporter, AsyncDocumentReporter]):
    """Reports what a pipeline on an event loop does; see `Reporter`, which has the arguments.

    The thread that sends is the same, so the loop does nothing for it. It may be made before there
    is a loop, and used in several.
    """

    _batch_class = AsyncBatchReporter
    _document_class = AsyncDocumentReporter

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


async def _iterate(items: Iterable[T] | AsyncIterator[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterator):
        async for item in items:
            yield item
        return
    for item in items:
        yield item
