"""Streams that reconnect and continue, on an event loop."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from grpc import aio

from stagecast.client.arguments import Span, seconds_of
from stagecast.client.calls import method_of
from stagecast.client.channel import LazyChannel
from stagecast.client.decoding import silence_error, undecodable_error
from stagecast.client.errors import error_of
from stagecast.client.records import Batch, Event
from stagecast.client.resumption import (
    SILENCE_S,
    BatchEvents,
    DatasetEvent,
    DatasetEvents,
    Resumption,
    WholeMessages,
)
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
        self._channel = channel
        self._open = channel.unary_stream(**method_of(resumption.request))
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
        self._channel.check_open()
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


class _AsyncIterating(Generic[T]):
    """Iterates over the items of a stream."""

    def __init__(
        self,
        channel: LazyChannel,
        resumption: Resumption[T],
        give_up_after: Span,
        dataset: str | uuid.UUID | None = None,
    ) -> None:
        self._endpoint = channel.endpoint
        self._resumption = resumption
        self._dataset = dataset
        retries = Retries(self._endpoint, seconds_of("give_up_after", give_up_after))
        self._stream = ResumedStream(channel, resumption, retries)
        self._pending: deque[T] = deque()
        self._ended = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._resumption}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._pending:
            if self._ended:
                raise StopAsyncIteration
            await self._read()
        item = self._pending.popleft()
        if not self._pending:
            self._passed()
        return item

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the watch."""
        self._ended = True
        self._pending.clear()
        self._stream.leave()

    async def _read(self) -> None:
        try:
            items = await self._stream.read()
        except aio.AioRpcError as error:
            raise error_of(error, self._endpoint, self._dataset) from None
        except aio.UsageError:
            raise RuntimeError("the client is closed") from None
        if items is None:
            await self.close()
            return
        self._pending.extend(items)
        if not self._pending:
            self._passed()

    def _passed(self) -> None:
        """Note that everything up to the last message has been yielded."""


class AsyncWatch(_AsyncIterating[Event]):
    """Iterates over the events of a batch; made by `AsyncClient.watch`, see `Watch`.

    A cancelled or timed-out `anext` loses nothing: the watch may be iterated over further.

    Attributes:
        batch: the batch as of the last event whose changes are complete; `None` at first.
        resume_token: continues after the last event whose changes are complete.
    """

    def __init__(self, channel: LazyChannel, events: BatchEvents, give_up_after: Span) -> None:
        super().__init__(channel, events, give_up_after, events.dataset)
        self._events = events
        self.batch: Batch | None = None
        self.resume_token: str = events.resume_token

    def _passed(self) -> None:
        self.batch, self.resume_token = self._events.batch, self._events.resume_token


class AsyncDatasetsWatch(_AsyncIterating[DatasetEvent]):
    """Iterates over changed datasets; made by `AsyncClient.watch_datasets`."""

    def __init__(self, channel: LazyChannel, events: DatasetEvents, give_up_after: Span) -> None:
        super().__init__(channel, events, give_up_after)
