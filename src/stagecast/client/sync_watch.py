"""Streams that reconnect and continue, on a thread: `watch` without an event loop."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from stagecast.client.arguments import Span, seconds_of
from stagecast.client.calls import method_of
from stagecast.client.channel import ThreadChannel
from stagecast.client.decoding import silence_error
from stagecast.client.errors import error_of
from stagecast.client.records import Batch, Event
from stagecast.client.resumption import (
    SILENCE_S,
    BatchEvents,
    DatasetEvent,
    DatasetEvents,
    Resumption,
)
from stagecast.client.retry import Retries

T = TypeVar("T")

_SILENCE_S = SILENCE_S
_CHECKS = 8  # in the time of silence
_END = object()


class ThreadStream(Generic[T]):
    """A stream across lost connections and server restarts; see `ResumedStream`.

    A read that Ctrl-C interrupts gives up the connection; the next one continues where it was.
    """

    def __init__(self, channel: ThreadChannel, resumption: Resumption[T], retries: Retries) -> None:
        self._channel = channel
        self._resumption = resumption
        self._retries = retries
        self._call: Any = None
        self._watchdog = _Watchdog(_SILENCE_S)
        self._closed = threading.Event()

    def __del__(self) -> None:
        # A loop that is left by `break` has no block that could end the thread.
        self.leave()

    def read(self) -> Iterable[T] | None:
        """Return the items of the next message, `None` at the end of the stream or after `close`.

        Raises:
            grpc.RpcError: the call was refused, or the server was unavailable for too long.
        """
        while not self._closed.is_set():
            try:
                message = self._receive()
            except grpc.RpcError as error:
                failure: Any = silence_error(_SILENCE_S) if self._watchdog.fired else error
                self.leave()
                pause_s = self._retries.pause_s(failure)
                if pause_s is None and not self._closed.is_set():
                    raise failure from None
            except BaseException:
                self.leave()
                raise
            else:
                return None if message is _END else self._resumption.receive(message)
            self._closed.wait(pause_s)
        return None

    def close(self) -> None:
        """End the stream, on any thread; a read under way on another one returns `None`."""
        self._closed.set()
        self.leave()

    def leave(self) -> None:
        """Cancel the call, if one is under way; the next read makes another."""
        self._watchdog.stop()
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self._resumption.lost()

    def _receive(self) -> Any:  # noqa: ANN401 - of the rpc, or the end
        call = self._call = self._call or self._open()
        if self._closed.is_set():  # meanwhile: `close` may not have seen the call
            call.cancel()
        with self._watchdog.guarding(call):
            message = next(call, _END)
        if message is not _END:
            self._retries.succeeded()
        return message

    def _open(self) -> Any:  # noqa: ANN401 - grpc has no public class of it
        request = self._resumption.request
        return self._channel.unary_stream(**method_of(request))(request)


class _Watchdog:
    """Cancels a call whose reader waits for too long, since a read on a thread has no timeout.

    Its own thread wakes a few times in that time, so that a read costs nothing more.

    Attributes:
        fired: whether the last guarded call was cancelled.
    """

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._stopped: threading.Event | None = None  # of the thread that runs
        self._guarded: tuple[float, Any] | None = None  # until when, and which call
        self.fired = False

    @contextlib.contextmanager
    def guarding(self, call: Any) -> Iterator[None]:  # noqa: ANN401 - grpc has no public class of it
        """Cancel a call if the block takes too long."""
        self.fired = False
        if self._stopped is None:
            self._stopped = threading.Event()
            run = threading.Thread(
                target=self._run, args=[self._stopped], name="stagecast-watch", daemon=True
            )
            run.start()
        self._guarded = (time.monotonic() + self._silence_s, call)
        try:
            yield
        finally:
            self._guarded = None

    def stop(self) -> None:
        """End the thread."""
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            stopped.set()

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._silence_s / _CHECKS):
            guarded = self._guarded
            if guarded is not None and time.monotonic() > guarded[0]:
                self.fired = True
                guarded[1].cancel()
            del guarded  # else the call lives until the next check


class _Iterating(Generic[T]):
    """Iterates over the items of a stream."""

    def __init__(
        self,
        channel: ThreadChannel,
        resumption: Resumption[T],
        give_up_after: Span,
        dataset: str | uuid.UUID | None = None,
    ) -> None:
        self._endpoint = channel.endpoint
        self._resumption = resumption
        self._dataset = dataset
        retries = Retries(self._endpoint, seconds_of("give_up_after", give_up_after))
        self._stream = ThreadStream(channel, resumption, retries)
        self._pending: deque[T] = deque()
        self._ended = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._resumption}>"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while not self._ended:
            if self._pending:
                item = self._pending.popleft()
                if not self._pending:
                    self._passed()
                return item
            self._read()
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the watch, on any thread."""
        self._ended = True
        self._stream.close()

    def _read(self) -> None:
        try:
            items = self._stream.read()
        except grpc.RpcError as error:
            failure: Any = error
            raise error_of(failure, self._endpoint, self._dataset) from None
        if items is None:
            self.close()
            return
        self._pending.extend(items)
        if not self._pending:
            self._passed()

    def _passed(self) -> None:
        """Note that everything up to the last message has been yielded."""


class Watch(_Iterating[Event]):
    """Iterates over the events of a batch; made by `Client.watch`.

    Use it on one thread at a time. After Ctrl-C it may be iterated over further; as Ctrl-C may come
    just when an event is taken, go on with a saved token if you cannot miss one.

    Attributes:
        batch: the batch as of the last event whose changes are complete; `None` at first. After the
            end it is the batch that has ended.
        resume_token: continues after the last event whose changes are complete, in another watch,
            process or life. Save it after you have handled an event, with what you did about it.
            Changes of one call belong together: until the last of them it is the token from before.
    """

    def __init__(self, channel: ThreadChannel, events: BatchEvents, give_up_after: Span) -> None:
        super().__init__(channel, events, give_up_after, events.dataset)
        self._events = events
        self.batch: Batch | None = None
        self.resume_token: str = events.resume_token

    def _passed(self) -> None:
        self.batch, self.resume_token = self._events.batch, self._events.resume_token


class DatasetsWatch(_Iterating[DatasetEvent]):
    """Iterates over changed datasets; made by `Client.watch_datasets`."""

    def __init__(self, channel: ThreadChannel, events: DatasetEvents, give_up_after: Span) -> None:
        super().__init__(channel, events, give_up_after)
