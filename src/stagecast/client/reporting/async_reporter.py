"""`AsyncReporter`: the same for event loops; what waits for an order is awaited."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from stagecast.client.records import NewDocument
from stagecast.client.reporting.batch import STRICT_S, BatchFace
from stagecast.client.reporting.core import ABSENT_S, SILENT_S
from stagecast.client.reporting.document import DocumentCore
from stagecast.client.reporting.options import Documents, Duration, OnError, new_document
from stagecast.client.reporting.reporter import ReporterCore, behaviour_of
from stagecast.client.reporting.sharing import Sharing
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
        """Report that indexing begins, of so many chunks if that is known."""
        await self._obey()
        self._enter_stage(r.STAGE_INDEXING, total)

    async def track(
        self, items: Iterable[T] | AsyncIterator[T], total: int | None = None
    ) -> AsyncIterator[T]:
        """Yield items, and count each as an indexed chunk once the next one is wanted.

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


class AsyncBatchReporter(BatchFace):
    """A batch, as `BatchReporter`, to be used in an `async with` block."""

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
        return self._share() if follow else self._pending()

    def document(self, document: str | os.PathLike[str] | NewDocument) -> AsyncDocumentReporter:
        """Return a document by its id, and register it if the batch does not have it yet.

        Raises:
            TypeError: it is no id, path or `NewDocument`.
        """
        new = new_document(document)
        return AsyncDocumentReporter(self._core, new, self._core.document(new))

    async def flush(self, timeout: float | None = 30.0) -> bool:  # noqa: ASYNC109 - as `BatchReporter`
        """Send what waits, and wait until all is recorded; return whether it is.

        Args:
            timeout: for how long to wait, in seconds; `None` for no limit.

        Raises:
            stagecast.NotDelivered: with `strict`, something is not.
        """
        engine, queue = self._core.engine, self._core.queue
        engine.hurry()
        unused = not self._core.opened
        idle = await engine.wait_async(lambda: unused or queue.idle, timeout)
        done = idle and not queue.lost
        self._core.check_flushed(done=done)
        return done

    async def _pending(self) -> AsyncIterator[AsyncDocumentReporter]:
        engine, queue = self._core.engine, self._core.queue
        wait, outbox = engine.wait_async, engine.outbox
        for page in self._core.pages():
            await self._wait_for_server()
            for new in page:
                if self._core.is_pending(new):
                    yield AsyncDocumentReporter(
                        self._core, new, self._core.document(new, listed=True)
                    )
        if not self._core.submitted:
            self._core.survey()
            await self._wait_for_server()
            limit_s = SILENT_S if outbox.reached else 0
            await wait(lambda: queue.ready or bool(outbox.offline), limit_s)
            for new in self._core.listed():
                if self._core.is_pending(new):
                    yield AsyncDocumentReporter(self._core, new, self._core.document(new))

    async def _share(self) -> AsyncIterator[AsyncDocumentReporter]:
        await self._wait_for_server()
        engine = self._core.engine
        with Sharing(self._core) as sharing:
            while True:
                new = sharing.next()
                if new is not None:
                    queue = self._core.document(new, shared=True)
                    sharing.claim(queue)
                    try:
                        await engine.wait_async(partial(sharing.answered, queue), None)
                    except BaseException:
                        sharing.abandon(queue)
                        raise
                    if sharing.has(queue):
                        yield AsyncDocumentReporter(self._core, new, queue)
                elif engine.holds(sharing.over):
                    return
                else:
                    await engine.wait_async(sharing.has_news, None)

    async def _wait_for_server(self) -> None:
        """Wait until the server has answered, once, and not for long."""
        core, outbox = self._core, self._core.engine.outbox
        if core.waited:
            return
        core.waited = True
        wait = core.engine.wait_async
        await wait(lambda: core.queue.ready or outbox.answering, ABSENT_S)
        if outbox.answering:
            await wait(lambda: core.queue.ready, SILENT_S)


class AsyncReporter(ReporterCore):
    """Reports what a pipeline on an event loop does; see `Reporter`, which has the arguments.

    The thread that sends is the same, so the loop does nothing for it. It may be made before there
    is a loop, and used in several.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection once all is sent; do not wait for that."""
        self._engine.close()

    def batch(
        self,
        dataset: str | uuid.UUID,
        documents: Documents | None = None,
        *,
        batch_id: str | None = None,
        on_error: OnError = "raise",
        strict: bool = False,
        obey: bool = True,
        stall_on_no_progress: Duration | None = None,
        labels: Mapping[str, str] | None = None,
        start_after: Duration | None = None,
        stall_after: Duration | None = None,
        fail_after: Duration | None = None,
        seal_after: Duration | None = None,
    ) -> AsyncBatchReporter:
        """Return a batch, to be used in an `async with` block; see `Reporter.batch`.

        Raises:
            TypeError, ValueError: an argument is invalid.
        """
        core = self._batch(
            dataset,
            documents,
            batch_id,
            behaviour_of(on_error, stall_on_no_progress, strict=strict, obey=obey),
            labels=labels,
            start_after=start_after,
            stall_after=stall_after,
            fail_after=fail_after,
            seal_after=seal_after,
        )
        return AsyncBatchReporter(core)

    def attach(
        self,
        token: str,
        *,
        on_error: OnError = "raise",
        strict: bool = False,
        obey: bool = True,
        stall_on_no_progress: Duration | None = None,
    ) -> AsyncDocumentReporter:
        """Take up a document of another process by its `doc.token`; see `Reporter.attach`.

        Raises:
            TypeError, ValueError: an argument is invalid.
        """
        behaviour = behaviour_of(on_error, stall_on_no_progress, strict=strict, obey=obey)
        core, new, queue = self._attach(token, behaviour)
        return AsyncDocumentReporter(core, new, queue, owns_batch=True)


async def _iterate(items: Iterable[T] | AsyncIterator[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterator):
        async for item in items:
            yield item
        return
    for item in items:
        yield item
