"""Streams that reconnect and continue, on a thread: `watch` without an event loop."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import grpc

from stagecast.client.channel import ThreadChannel
from stagecast.client.resumption import SILENCE_S, Resumption
from stagecast.client.retry import Retries
from stagecast.client.watch import silence_error

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

    def __del__(self) -> None:
        # A loop that is left by `break` has no block that could end the thread.
        self.leave()

    def read(self) -> Iterable[T] | None:
        """Return the items of the next message, `None` at the end of the stream.

        Raises:
            grpc.RpcError: the call was refused, or the server was unavailable for too long.
        """
        while True:
            try:
                message = self._receive()
            except grpc.RpcError as error:
                failure: Any = silence_error(_SILENCE_S) if self._watchdog.fired else error
                self.leave()
                pause_s = self._retries.pause_s(failure)
                if pause_s is None:
                    raise failure from None
            except BaseException:
                self.leave()
                raise
            else:
                return None if message is _END else self._resumption.receive(message)
            time.sleep(pause_s)

    def leave(self) -> None:
        """Cancel the call, if one is under way; the next read makes another."""
        self._watchdog.stop()
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self._resumption.lost()

    def _receive(self) -> Any:  # noqa: ANN401 - of the rpc, or the end
        self._call = self._call or self._open()
        with self._watchdog.guarding(self._call):
            message = next(self._call, _END)
        if message is not _END:
            self._retries.succeeded()
        return message

    def _open(self) -> Any:  # noqa: ANN401 - grpc has no public class of it
        rpc = self._channel.unary_stream(
            f"/stagecast.v1.{self._resumption.rpc}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=self._resumption.response,
        )
        return rpc(self._resumption.request)


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
        if self._stopped is not None:
            self._stopped.set()
            self._stopped = None

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._silence_s / _CHECKS):
            guarded = self._guarded
            if guarded is not None and time.monotonic() > guarded[0]:
                self.fired = True
                guarded[1].cancel()
            del guarded  # else the call lives until the next check
