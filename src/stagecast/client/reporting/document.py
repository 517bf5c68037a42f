"""Documents, as the code of a pipeline sees them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from stagecast.client.records import NewDocument
from stagecast.client.reporting import failures
from stagecast.client.reporting.core import BatchCore
from stagecast.client.reporting.options import count_of, length_of
from stagecast.client.reporting.queues import DocumentQueue, Entry, Step, Takeover
from stagecast.client.reporting.tokens import DocumentToken
from stagecast.errors import Stopped
from stagecast.escaping import escape_controls, quote
from stagecast.v1 import resources_pb2 as r

T = TypeVar("T")


class DocumentCore:
    """What both kinds of documents do without waiting.

    Args:
        core: the batch.
        new: the document.
        queue: its reports.
        owns_batch: whether the batch is left with the document.
    """

    def __init__(
        self, core: BatchCore, new: NewDocument, queue: DocumentQueue, *, owns_batch: bool = False
    ) -> None:
        self._core = core
        self._new = new
        self._document = queue
        self._generation = core.engine.generation
        self._owns_batch = owns_batch
        self._stage = r.STAGE_WAITING
        self._completed = 0
        self._total: int | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @property
    def id(self) -> str:
        """The id of the document: the path or text that it was submitted as."""
        return self._new.document_id

    @property
    def cancelled(self) -> bool:
        """Whether work on it is to end: it was stopped, or another worker has it.

        For code between two reports, such as a long loop, and with `obey=False`.
        """
        return bool(self._queue.stopped)

    @property
    def token(self) -> str:
        """A text with which `stagecast.attach` takes it up in another process.

        Within the block of the document, the other process joins the same attempt. It does not
        contain the key.
        """
        queue = self._queue
        return DocumentToken(
            dataset_id=self._core.options.dataset_id,
            batch_id=self._core.options.batch_id,
            document_id=self.id,
            display_name=self._new.display_name,
            labels=self._new.labels,
            worker=queue.worker if queue.open else "",
            attempt=queue.attempt if queue.open else 0,
            address=self._core.engine.endpoint.address,
        ).encode()

    @property
    def _queue(self) -> DocumentQueue:
        """What waits of the document in this process."""
        if self._generation != self._core.engine.generation:
            self._generation = self._core.engine.generation
            batch = self._core.queue  # begins anew as well
            self._document.batch = batch
            self._document.begin_anew()
        return self._document

    # What faces do after they have waited for orders.

    def _enter(self) -> None:
        """Begin to work on it; again after its end, in another attempt."""
        queue = self._queue
        if queue.ended:
            queue = self._try_again(queue)
        self._take_up(queue)
        self._postpone_silence(queue)
        self._core.engine.outbox.work_on(queue)

    def _leave(self, error: BaseException | None) -> bool:
        """End the work on it, and return whether the exception ends here."""
        queue = self._queue
        own_stop = error is not None and self._is_own_stop(error)
        if error is not None and not own_stop:
            self._put(error=(failures.reason_of(error), failures.message_of(error)))
        elif error is None:
            self._put(stage=r.STAGE_COMPLETED)
        self._core.engine.outbox.close(queue)
        if self._owns_batch:
            self._core.leave()
        continues = self._core.behaviour.on_error == "continue" and isinstance(error, Exception)
        return own_stop or continues

    def _enter_stage(self, stage: r.Stage.ValueType, total: int | None = None) -> None:
        self._stage = stage
        total = self._whole(total)
        if total is None:
            self._put(stage=stage)
        else:
            self._total = total
            self._put(stage=stage, completed=self._completed, total=max(total, self._completed))

    def _count(self, completed: int, total: int | None) -> None:
        whole, total = self._whole(completed), self._whole(total)
        if whole is None:
            return
        self._completed = whole
        self._total = self._total if total is None else total
        if self._total is not None:
            self._total = max(self._total, whole)
        self._put(completed=whole, total=self._total)

    def _set_step(self, name: str, completed: int, total: int | None) -> None:
        whole, total = self._whole(completed), self._whole(total)
        if whole is None:
            return
        total = None if total is None else max(total, whole)
        step = Step(escape_controls(str(name))[:64] or "step", whole, total)
        self._put(completed=self._completed, total=self._total, step=step)

    def _fail(self, reason: str, message: object) -> None:
        self._put(error=(failures.valid_reason(str(reason)), failures.valid_text(message)))

    def _whole(self, number: object) -> int | None:
        """Return a counter, `None` if it is unknown; an invalid one cannot be delivered."""
        whole = count_of(number)
        if whole is None and number is not None:
            outbox = self._core.engine.outbox
            with outbox.changed:
                why = f"document {quote(self.id)}: invalid counter {number!r}; use whole numbers"
                outbox.undelivered(self._queue.batch, why)
        return whole

    def _begin_tracking(self, items: object, total: int | None) -> bool:
        """Return whether the stage INDEXING begins; note how many items there are in all."""
        total = length_of(items) if total is None else self._whole(total)
        if total is not None:
            self._total = self._completed + total
        return self._stage != r.STAGE_INDEXING

    # Helpers.

    def _is_own_stop(self, error: BaseException) -> bool:
        """Return whether an exception says that work on this document is to end.

        It may have been raised through another object of the document, such as one of
        `stagecast.attach`, or by tasks of a group.
        """
        if isinstance(error, BaseExceptionGroup):
            return all(map(self._is_own_stop, error.exceptions))
        options = self._core.options
        ids = (options.dataset_id, options.batch_id, self.id)
        named = isinstance(error, Stopped) and (error.dataset_id, error.batch_id, error.document_id)
        return named == ids

    def _stop_error(self) -> Stopped:
        return Stopped(
            f"work on document {quote(self.id)} is to end: {self._queue.stopped}",
            dataset_id=self._core.options.dataset_id,
            batch_id=self._core.options.batch_id,
            document_id=self.id,
        )

    def _must_pause(self) -> bool:
        """Return whether to wait for an order.

        Raises:
            Stopped: work on it is to end.
            NotDelivered: something could not be delivered, and that is to be raised.
        """
        self._core.raise_problem()
        if not self._core.behaviour.obey:
            return False
        queue = self._queue
        if queue.stopped and not queue.ended:
            raise self._stop_error()
        return queue.paused

    def _is_resumed(self) -> bool:
        return not self._queue.paused or bool(self._queue.stopped)

    def _put(
        self,
        stage: r.Stage.ValueType = r.STAGE_UNSPECIFIED,
        *,
        completed: int | None = None,
        total: int | None = None,
        step: Step | None = None,
        error: tuple[str, str] | None = None,
    ) -> None:
        queue = self._queue
        if queue.ended:
            return
        self._take_up(queue)
        self._postpone_silence(queue)
        entry = Entry(
            time_ns=time.time_ns(),
            stage=stage,
            completed=completed,
            total=total,
            step=step,
            error=error,
        )
        self._core.engine.outbox.put(queue, entry)
        if stage == r.STAGE_COMPLETED:
            queue.batch.succeeded.add(self.id)

    def _postpone_silence(self, queue: DocumentQueue) -> None:
        """Note that there was progress, as heartbeats end some time after the last."""
        silence_s = self._core.behaviour.stall_on_no_progress_s
        if silence_s is not None:
            queue.silent_after = self._core.engine.outbox.now() + silence_s

    def _take_up(self, queue: DocumentQueue) -> None:
        """Register it if this process has not, and start an attempt unless there is one."""
        if not queue.registered:
            self._core.register(self._new)
            queue.registered = True
        if queue.start is None and not queue.attempt and not queue.stopped:
            self._core.engine.outbox.start(queue, queue.takeover)

    def _try_again(self, before: DocumentQueue) -> DocumentQueue:
        queue = DocumentQueue(before.batch, self.id, before.worker)
        queue.registered, queue.takeover = True, Takeover.ALWAYS
        self._document = queue
        self._stage, self._completed, self._total = r.STAGE_WAITING, 0, None
        return queue


class DocumentReporter(DocumentCore):
    """A document of a batch, to report on.

    Work on it in a `with` block: this starts an attempt of this worker, and completes the document
    at its end. An exception fails the document, with a reason made from its class; it is raised
    again unless the batch has `on_error="continue"`.

    Reports cost microseconds and never wait for the server. They do what an operator has ordered:
    while the document is paused they block, and once it was stopped, or another worker has it, they
    raise `stagecast.Stopped`, which leaves the block and ends there.
    """

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return self._leave(error)

    def parsing(self) -> None:
        """Report that parsing begins."""
        self._obey()
        self._enter_stage(r.STAGE_PARSING)

    def cleaning(self) -> None:
        """Report that cleaning begins."""
        self._obey()
        self._enter_stage(r.STAGE_CLEANING)

    def splitting(self) -> None:
        """Report that splitting into chunks begins."""
        self._obey()
        self._enter_stage(r.STAGE_SPLITTING)

    def indexing(self, total: int | None = None) -> None:
        """Report that indexing begins; `total` is the number of chunks, if it is known."""
        self._obey()
        self._enter_stage(r.STAGE_INDEXING, total)

    def track(self, items: Iterable[T], total: int | None = None) -> Iterator[T]:
        """Yield each item, and count it as an indexed chunk when the loop asks for the next.

        Args:
            items: such as the chunks of the document.
            total: how many there are, by default their length if they have one.
        """
        self._obey()
        if self._begin_tracking(items, total):
            self._enter_stage(r.STAGE_INDEXING, self._total)
        for item in items:
            yield item
            self._obey()
            self._count(self._completed + 1, None)

    def progress(self, completed: int, total: int | None = None) -> None:
        """Report how many chunks are indexed, and how many there are if that is known."""
        self._obey()
        self._count(completed, total)

    def step(self, name: str, completed: int, total: int | None = None) -> None:
        """Report what goes on within the stage, such as `doc.step("pages", 3, 12)`."""
        self._obey()
        self._set_step(name, completed, total)

    def fail(self, reason: str, message: str = "") -> None:
        """End the document as FAILED; what is reported on it afterwards is ignored.

        Args:
            reason: for programs, in UPPER_SNAKE, such as `NO_TEXT`.
            message: for people.
        """
        self._obey()
        self._fail(reason, message)

    def _obey(self) -> None:
        while self._must_pause():
            self._core.engine.wait(self._is_resumed, None)
