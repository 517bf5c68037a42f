"""A watch that survives: it reconnects and goes on with exactly the next transition."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from stagecast.client.backoff import Backoff
from stagecast.client.decoding import undecodable
from stagecast.client.errors import details_of
from stagecast.v1 import status_service_pb2 as pb

if TYPE_CHECKING:  # the stub of an aio channel; only the types tell it from the other
    from stagecast.v1.status_service_pb2_grpc import StatusServiceAsyncStub

# A server that lets go of a connection may have no time to say why.
_TRANSIENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_HEARTBEAT_S = 15
_SILENCE_S = 2.5 * _HEARTBEAT_S  # then the connection is dead, whatever TCP says


_Call = aio.UnaryStreamCall[pb.WatchBatchRequest, pb.WatchBatchResponse]


async def watch_batch(
    status: StatusServiceAsyncStub,
    request: pb.WatchBatchRequest,
    *,
    give_up_after_s: float,
    on_lost: Callable[[], None],
) -> AsyncGenerator[pb.WatchBatchResponse]:
    """Yield the messages of `WatchBatch`, across lost connections and server restarts.

    Messages that are a part only are merged with those that follow, so that each one that is
    yielded bears a `resume_token`: whoever stores that with what it did can begin again from there.

    Args:
        status: the stub to call.
        request: what to watch; its `heartbeat_interval` is set here.
        give_up_after_s: how long to try to reconnect before the error is raised.
        on_lost: called when a connection is lost and could not be made again at once.

    Raises:
        grpc.aio.AioRpcError: the call was refused, the first connection failed, or the server did
            not come back in time.
    """
    resumed = pb.WatchBatchRequest()
    resumed.CopyFrom(request)
    resumed.heartbeat_interval.CopyFrom(Duration(seconds=_HEARTBEAT_S))
    outages = _Outages(give_up_after_s, on_lost)
    while True:
        call = status.WatchBatch(resumed)
        try:
            # The server lets it begin after it has looked at the token, before there is news.
            await _accepted(call)
            outages.connected()
            async with contextlib.aclosing(_whole_messages(call)) as messages:
                async for message in messages:
                    outages.last_message_at()
                    resumed.resume_token = message.resume_token
                    yield message
            return
        except aio.AioRpcError as error:
            advised = details_of(error).retry_after_s
            transient = error.code() in _TRANSIENT or advised is not None
            if not transient or outages.too_long:
                raise
        await outages.outlast(advised)


class _Outages:
    """How long the server was away, and for how long to try again."""

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
        """Note that the server has taken a call."""
        self._last_message_at = self._last_message_at or self._now()
        self._failures = 0

    def last_message_at(self) -> None:
        """Note that a message came."""
        self._last_message_at = self._now()
        self._backoff.reset()

    async def outlast(self, advised_s: float | None) -> None:
        """Wait until it is time to try again."""
        self._failures += 1
        if self._failures == 2:
            self._on_lost()
        await self._backoff.wait(advised_s)


async def _accepted(call: _Call) -> None:
    """Wait until the server has taken the call."""
    try:
        async with asyncio.timeout(_SILENCE_S):
            await call.wait_for_connection()
    except TimeoutError:
        call.cancel()
        raise _silent() from None


async def _whole_messages(
    call: _Call,
) -> AsyncGenerator[pb.WatchBatchResponse]:
    """Yield messages that bear a token; parts that lead to none are dropped, they come again."""
    gathered = pb.WatchBatchResponse()
    try:
        while True:
            async with asyncio.timeout(_SILENCE_S):
                message = await call.read()
            if message is None:
                raise undecodable()
            if not isinstance(message, pb.WatchBatchResponse):  # the end of the stream
                return
            gathered.ClearField("server_time")
            gathered.MergeFrom(message)
            if message.resume_token:
                yield gathered
                gathered = pb.WatchBatchResponse()
    except TimeoutError:
        raise _silent() from None
    finally:
        call.cancel()


def _silent() -> aio.AioRpcError:
    return aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        aio.Metadata(),
        aio.Metadata(),
        details=f"nothing was heard for {_SILENCE_S:g} s",
    )
