"""A watch that reconnects and resumes with exactly the next transition."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from stagecast.client.backoff import Backoff
from stagecast.client.decoding import undecodable_error
from stagecast.client.errors import details_of
from stagecast.v1 import status_service_pb2 as pb

if TYPE_CHECKING:  # the stub of an aio channel, which exists for type checkers only
    from stagecast.v1.status_service_pb2_grpc import StatusServiceAsyncStub

# A server that closes a connection may have no time to send a status.
_TRANSIENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_HEARTBEAT_S = 15
_SILENCE_S = 2.5 * _HEARTBEAT_S  # without a message; then the connection counts as dead


_Call = aio.UnaryStreamCall[pb.WatchBatchRequest, pb.WatchBatchResponse]


async def watch_batch(
    status: StatusServiceAsyncStub,
    request: pb.WatchBatchRequest,
    *,
    give_up_after_s: float,
    on_lost: Callable[[], None],
) -> AsyncGenerator[pb.WatchBatchResponse]:
    """Yield the messages of `WatchBatch`, across lost connections and server restarts.

    Partial messages are merged with those that follow, so that each message yielded has a
    `resume_token`: a caller that stores it with the results of its work can resume from there.

    Args:
        status: the stub to call.
        request: what to watch; its `heartbeat_interval` is set here.
        give_up_after_s: how long to try to reconnect before the error is raised; the first
            connection is tried only once.
        on_lost: called when a connection is lost and the first reconnect has failed.

    Raises:
        grpc.aio.AioRpcError: the call was refused, the first connection failed, or the server was
            unavailable for too long.
    """
    resumed = pb.WatchBatchRequest()
    resumed.CopyFrom(request)
    resumed.heartbeat_interval.CopyFrom(Duration(seconds=_HEARTBEAT_S))
    outages = _Outages(give_up_after_s, on_lost)
    while True:
        call = status.WatchBatch(resumed)
        try:
            # The server accepts it once it has checked the token, before the first message.
            await _wait_until_accepted(call)
            outages.connected()
            async with contextlib.aclosing(_whole_messages(call)) as messages:
                async for message in messages:
                    outages.message_received()
                    resumed.resume_token = message.resume_token
                    yield message
            return
        except aio.AioRpcError as error:
            advised = details_of(error).retry_after_s
            transient = error.code() in _TRANSIENT or advised is not None
            if not transient or outages.too_long:
                raise
        await outages.wait(advised)


class _Outages:
    """How long the server has been unavailable, and whether to retry."""

    def __init__(self, give_up_after_s: float, on_lost: Callable[[], None]) -> None:
        self._now = asyncio.get_running_loop().time
        self._give_up_after_s = give_up_after_s
        self._on_lost = on_lost
        self._backoff = Backoff()
        self._last_message_at: float | None = None
        self._failures = 0

    @property
    def too_long(self) -> bool:
        """Whether to give up: at once if there was no connection yet."""
        return (
            self._last_message_at is None
            or self._now() - self._last_message_at > self._give_up_after_s
        )

    def connected(self) -> None:
        """Record that the server has accepted a call."""
        self._last_message_at = self._last_message_at or self._now()
        self._failures = 0

    def message_received(self) -> None:
        """Record that a message was received."""
        self._last_message_at = self._now()
        self._backoff.reset()

    async def wait(self, advised_s: float | None) -> None:
        """Wait before the next retry."""
        self._failures += 1
        if self._failures == 2:
            self._on_lost()
        await self._backoff.wait(advised_s)


async def _wait_until_accepted(call: _Call) -> None:
    """Wait until the server has accepted the call."""
    try:
        async with asyncio.timeout(_SILENCE_S):
            await call.wait_for_connection()
    except TimeoutError:
        call.cancel()
        raise _silence_error() from None


async def _whole_messages(
    call: _Call,
) -> AsyncGenerator[pb.WatchBatchResponse]:
    """Yield messages with a token; parts at the end without one are dropped and sent again."""
    merged = pb.WatchBatchResponse()
    try:
        while True:
            async with asyncio.timeout(_SILENCE_S):
                message = await call.read()
            if message is None:
                raise undecodable_error()
            if not isinstance(message, pb.WatchBatchResponse):  # the end of the stream
                return
            merged.ClearField("server_time")
            merged.MergeFrom(message)
            if message.resume_token:
                yield merged
                merged = pb.WatchBatchResponse()
    except TimeoutError:
        raise _silence_error() from None
    finally:
        call.cancel()


def _silence_error() -> aio.AioRpcError:
    return aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        aio.Metadata(),
        aio.Metadata(),
        details=f"no message received for {_SILENCE_S:g} s",
    )
