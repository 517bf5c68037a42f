"""Streams that reconnect and continue, on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc
from grpc import aio

from stagecast.client.channel import LazyChannel
from stagecast.client.decoding import made_error, undecodable_error
from stagecast.client.resumption import SILENCE_S, Resumption, WholeMessages
from stagecast.client.retry import Retries

if TYPE_CHECKING:
    from stagecast.v1 import status_service_pb2 as pb

T = TypeVar("T")

_SILENCE_S = SILENCE_S


class ResumedStream(Generic[T]):
    """A stream across lost connections and server restarts.

    A read that is cancelled gives up the connection; the next one continues where it was.
    """

    def __init__(self, channel: LazyChannel, resumption: Resumption[T], retries: Retries) -> None:
        self._open = channel.unary_stream(
            f"/stagecast.v1.{resumption.rpc}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=resumption.response,
        )
        self._resumption = resumption
        self._retries = retries
        self._call: Any = None

    def __del__(self) -> None:
        # A loop that is left by `break` has no block that could end the call, and grpc's own object
        # is part of a cycle: it would be collected much later.
        self.leave()

    async def read(self) -> Iterable[T] | None:
        """Return the items of the next message, `None` at the end of the stream.

        Raises:
            grpc.aio.AioRpcError: the call was refused, or the server was unavailable for too long.
        """
        while True:
            try:
                message = await self._receive()
            except aio.AioRpcError as error:
                self.leave()
                pause_s = self._retries.pause_s(error)
                if pause_s is None:
                    raise
            except BaseException:
                self.leave()
                raise
            else:
                return None if message is aio.EOF else self._resumption.receive(message)
            await asyncio.sleep(pause_s)

    def leave(self) -> None:
        """Cancel the call, if one is under way; the next read makes another."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self._resumption.lost()

    async def _receive(self) -> Any:  # noqa: ANN401 - of the rpc, or the end
        self._call = self._call or self._open(self._resumption.request)
        try:
            async with asyncio.timeout(_SILENCE_S):
                message = await self._call.read()
        except TimeoutError:
            raise silence_error(_SILENCE_S) from None
        if message is None:
            raise undecodable_error()
        if message is not aio.EOF:
            self._retries.succeeded()
        return message


def silence_error(silence_s: float) -> aio.AioRpcError:
    """Return the error for a connection without any message."""
    return made_error(grpc.StatusCode.UNAVAILABLE, f"no message received for {silence_s:g} s")


async def watch_batch(
    channel: LazyChannel, request: pb.WatchBatchRequest, retries: Retries
) -> AsyncGenerator[pb.WatchBatchResponse]:
    """Yield the messages of `WatchBatch`, across lost connections and server restarts.

    Partial messages are merged with those that follow, so that each message yielded has a
    `resume_token`: a caller that stores it with the results of its work can resume from there.

    Args:
        channel: for the calls.
        request: what to watch; its `heartbeat_interval` is set here.
        retries: for how long to reconnect.

    Raises:
        grpc.aio.AioRpcError: the call was refused, the first connection failed, or the server was
            unavailable for too long.
    """
    stream: ResumedStream[pb.WatchBatchResponse]
    stream = ResumedStream(channel, WholeMessages(request), retries)
    try:
        while (messages := await stream.read()) is not None:
            for message in messages:
                yield message
    finally:
        stream.leave()
