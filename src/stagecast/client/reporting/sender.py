"""The thread that sends what is in an outbox.

It is the only one that calls the server with reports. It opens the channel, so a fork before the
first report is safe. `hold` stops its calls during later forks, which gRPC survives while no call
is under way.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc.experimental import ChannelOptions

from stagecast.client.decoding import undecodable_error
from stagecast.client.endpoint import Endpoint
from stagecast.client.errors import error_of
from stagecast.client.reporting.jobs import Call, Job
from stagecast.client.reporting.outbox import Outbox
from stagecast.client.retry import Backoff
from stagecast.config import socket_path
from stagecast.errors import CallFailed, RetryableError, StagecastError, Unavailable

_CALL_S = 10.0  # the timeout of a call
_CONNECT_S = 0.2  # to connect, after which the port counts as closed
_CANCEL_S = 0.05  # in which a cancelled call ends
_CANCELS = 20  # tries to cancel calls before a fork; then it goes on regardless
_HURRY_S = 0.1  # the longest pause of an exiting process
_TRIES = 10  # of a call that fails by a fault of the server: some four seconds
_FAULTS = (grpc.StatusCode.INTERNAL.name, grpc.StatusCode.UNKNOWN.name)

_log = logging.getLogger("stagecast")


class Sender:
    """Sends what is in an outbox, until it is stopped.

    Args:
        outbox: what to send.
        endpoint: where to.
    """

    def __init__(self, outbox: Outbox, endpoint: Endpoint) -> None:
        self._outbox = outbox
        self._endpoint = endpoint
        self._channel: grpc.Channel | None = None
        self._backoff = Backoff()
        self._retry_at = 0.0
        self._hurries = False
        self._calling = threading.Lock()
        self._may_call = threading.Event()
        self._may_call.set()
        self._held = False
        self._calls: list[Any] = []
        self._broken = False
        self._deadline: float | None = None
        self._cancelled = False
        self._stopping = False
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether the thread has been started and not ended."""
        return self._thread is not None

    def start(self) -> None:
        """Start the thread, unless it runs, or the interpreter is about to end."""
        with self._outbox.changed:
            if self._thread is None and not self._stopping:
                thread = threading.Thread(target=self._run, name="stagecast-reporter", daemon=True)
                with contextlib.suppress(RuntimeError):  # from Python 3.12 on; see `run_until`
                    thread.start()
                    self._thread = thread

    def run_until(self, deadline: float) -> None:
        """Send what waits on this thread, where no other can be started."""
        self._deadline = deadline
        self._run()

    def hurry(self, *, always: bool = False) -> None:
        """Try again at once, and with `always` from now on with short pauses only."""
        with self._outbox.changed:
            self._retry_at = 0.0
            self._hurries = self._hurries or always
            self._outbox.due.notify_all()

    def close(self) -> None:
        """End the thread once all is sent."""
        with self._outbox.changed:
            self._closing = True
            self._outbox.due.notify_all()

    def stop(self) -> None:
        """End the thread, and cancel the call under way."""
        with self._outbox.changed:
            self._stopping = True
            self._outbox.due.notify_all()
        self._cancel()

    def hold(self) -> None:
        """Make no calls until `release`; a call under way is cancelled, and made again then."""
        self._may_call.clear()
        self._held = self._calling.acquire(blocking=False)
        for _ in range(_CANCELS):
            if self._held:
                break
            self._cancel()
            self._held = self._calling.acquire(timeout=_CANCEL_S)

    def release(self) -> None:
        """Make calls again."""
        if self._held:
            self._held = False
            self._calling.release()
        self._may_call.set()

    def _cancel(self) -> None:
        self._cancelled = True
        for call in [*self._calls]:
            call.cancel()

    def _run(self) -> None:
        while self._wait():
            try:
                self._send()
            except Exception:  # a bug must not end the thread
                if not self._broken:
                    _log.exception("reports cannot be sent; trying again")
                self._broken = True
                self._retry_at = self._outbox.now() + self._backoff.next_pause_s(None)
                self._outbox.flush()
        with self._calling:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def _wait(self) -> bool:
        """Wait until there is something to send; return whether to go on."""
        with self._outbox.changed:
            while not self._stopping:
                pause_s = self._outbox.pause_s()
                if self._is_done(pause_s):
                    break
                if pause_s is not None:
                    pause_s = max(pause_s, self._retry_at - self._outbox.now())
                    if pause_s <= 0:
                        return True
                self._outbox.due.wait(_HURRY_S if self._deadline else pause_s)
            self._thread = None
            return False

    def _is_done(self, pause_s: float | None) -> bool:
        if self._deadline is not None:
            return self._outbox.idle or self._outbox.now() > self._deadline
        return pause_s is None and self._closing and self._outbox.idle

    def _send(self) -> None:
        """Send all that waits now."""
        self._outbox.begin_round()
        while not self._stopping and (job := self._outbox.next_job()) is not None:
            if not self._perform(job):
                return

    def _perform(self, job: Job) -> bool:
        """Make the calls of a job; return whether none of them is to be made again."""
        self._may_call.wait()
        with self._calling:
            results = self._call(job.calls())
        retries_faults = _retries_faults(job, results)
        failure: StagecastError | None = None
        applied: list[Callable[[], None]] = []
        for index, result in enumerate(results):
            if isinstance(result, RetryableError) or (retries_faults and _is_fault(result)):
                failure = failure or result
            elif isinstance(result, StagecastError):
                applied.append(partial(job.refused, index, result))
            elif result is not None:
                applied.append(partial(job.answered, index, result))
        complete = len(applied) == len(results)
        if not complete:
            applied.append(job.failed)
        self._outbox.take(applied, answering=complete)
        if failure is not None:
            self._outbox.went_offline(str(failure))
            self._pause(failure)
        elif complete:
            self._backoff.reset()
        else:
            self._outbox.flush()  # a fork has cancelled it
        return complete

    def _pause(self, error: StagecastError) -> None:
        advised_s: float | None = None
        if isinstance(error, RetryableError) and type(error) is not Unavailable:
            advised_s = error.retry_after_s  # a server that cannot be reached gives no advice
        pause_s = self._backoff.next_pause_s(advised_s)
        self._retry_at = self._outbox.now() + (min(pause_s, _HURRY_S) if self._hurries else pause_s)

    def _call(self, calls: Sequence[Call]) -> list[Any]:
        """Return the responses, errors, and `None` for calls that were cancelled here."""
        channel = self._channel or self._connect()
        self._cancelled = False
        self._calls = [self._begin(channel, call) for call in calls]
        try:
            return [self._result(*each) for each in zip(calls, self._calls, strict=True)]
        finally:
            self._calls = []

    def _begin(self, channel: grpc.Channel, call: Call) -> Any:  # noqa: ANN401 - no public class
        # As a stream of one message: such a call can be cancelled, and needs no thread of its own,
        # which Python 3.12 refuses to start when the interpreter is about to end.
        method: Any = channel.unary_stream(
            f"/stagecast.v1.{call.rpc}", request_serializer=type(call.request).SerializeToString
        )
        return method(call.request, timeout=_CALL_S, metadata=self._endpoint.metadata)

    def _result(self, call: Call, answers: Any) -> Any:  # noqa: ANN401 - of several RPCs
        try:
            data = next(answers, b"")
            next(answers, None)  # the status
            return call.response(data)
        except DecodeError:
            return error_of(undecodable_error(), self._endpoint)
        except grpc.RpcError as caught:
            failure: Any = caught
            if self._cancelled and failure.code() is grpc.StatusCode.CANCELLED:
                return None
            return error_of(failure, self._endpoint)

    def _connect(self) -> grpc.Channel:
        if not self._outbox.reached and self._is_answered():
            with self._outbox.changed:
                self._outbox.answering = True
                self._outbox.changed.notify_all()
        endpoint = self._endpoint
        options = (*endpoint.options, (ChannelOptions.SingleThreadedUnaryStream, 1))
        if endpoint.credentials is None:
            self._channel = grpc.insecure_channel(endpoint.target, options=options)
        else:
            self._channel = grpc.secure_channel(
                endpoint.target, endpoint.credentials, options=options
            )
        return self._channel

    def _is_answered(self) -> bool:
        """Return whether something accepts connections at the address."""
        path = socket_path(self._endpoint.address)
        with contextlib.suppress(OSError, ValueError):
            if path is not None:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.settimeout(_CONNECT_S)
                    probe.connect(str(path))
                return True
            host, _, port = self._endpoint.address.rpartition(":")
            with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S):
                return True
        return False


def _is_fault(result: object) -> bool:
    return isinstance(result, CallFailed) and result.reason in _FAULTS


def _retries_faults(job: Job, results: list[Any]) -> bool:
    """Count tries of a kind of job in which the server has failed, and return whether to go on."""
    faults, kind = job.batch.faults, type(job).__name__
    tries = faults.pop(kind, 0) + 1
    if not any(map(_is_fault, results)) or tries == _TRIES:
        return False
    faults[kind] = tries
    return True
