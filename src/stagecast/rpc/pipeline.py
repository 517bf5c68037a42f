"""The steps of every call: count, admit, receive, decode, handle, encode, and answer errors.

They are composed once for each method, at the start. A call costs one `RunningCall`, and no timers,
tasks or context managers of its own: with those, the steps cost nearly as much as an empty call.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from stagecast.auth import Authenticator
from stagecast.config import Config
from stagecast.errors import FieldInvalid
from stagecast.model import Caller
from stagecast.rpc.authentication import SCOPES, admission, release_call
from stagecast.rpc.limits import WaitingCalls, WatchLimits, counted_as
from stagecast.rpc.request_reader import RequestReader
from stagecast.rpc.running_calls import Context, RunningCall, RunningCalls
from stagecast.rpc.status import answer_error
from stagecast.rpc.stream_writer import StreamWriter
from stagecast.rpc.unread_answers import UnreadAnswers

# The types of grpc speak of threaded handlers; those of grpc.aio are coroutines.
_Handler = Any

_Steps = Callable[[RunningCall], Awaitable[Any]]
_Admit = Callable[[RunningCall], Caller | None]

# A unary call that stays open as long as a watch.
_WAIT = "WaitBatch"

_STOPPED_READERS_S = 1.0  # for clients that do not read, when the server drains


class Pipeline:
    """Adds services to a server, with all steps before their handlers.

    Generated code takes it for a server.

    Attributes:
        watches: the open watches.
        runs: the steps of our own RPCs, by their paths, for another transport.
        writer: writes to streams.
        unread: the answers of unary calls, which grpc itself writes.
    """

    def __init__(self, server: aio.Server, config: Config, authenticator: Authenticator) -> None:
        self._server = server
        self._authenticator = authenticator
        self._running = RunningCalls()
        self.watches = WatchLimits(config)
        self.runs: dict[str, Callable[[Any, Context], Awaitable[Any]]] = {}
        self._waiting = WaitingCalls(config)
        self._reader = RequestReader(timeout_s=config.request_s, limit=config.max_waiting_calls)
        self.writer = StreamWriter(config.slow_reader_s, draining_s=_STOPPED_READERS_S)
        self.unread = UnreadAnswers(config.slow_reader_s, max_bytes=config.max_waiting_bytes)

    def drain(self) -> None:
        """Refuse new calls with `DRAINING`, and hurry those that wait for their clients."""
        self._running.close()
        self._reader.drain()
        self.writer.drain()

    async def finish(self, grace_s: float) -> None:
        """Give running calls `grace_s` seconds; end those that are left with `DRAINING`."""
        await self._running.wait_until_empty(grace_s)
        self._running.end()
        await self._running.wait_until_empty(_STOPPED_READERS_S)

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Do nothing: the same methods are registered as well."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, _Handler]
    ) -> None:
        """Add the methods of a service.

        All become ones with streamed requests, as bytes: for the others grpc reads the request
        first, before any authentication and without a timeout. They cost the same.
        """
        composed = {name: self._compose(service, name, handlers[name]) for name in handlers}
        generic = grpc.method_handlers_generic_handler(service, composed)
        self._server.add_generic_rpc_handlers((generic,))  # all that an older grpc serves
        self._server.add_registered_method_handlers(service, composed)

    def _compose(self, service: str, name: str, handler: _Handler) -> _Handler:
        is_ours = service in SCOPES
        # No drain waits for calls to other services.
        running = self._running if is_ours else RunningCalls()
        admit: _Admit = lambda _: None  # noqa: E731 - needs no credentials
        if is_ours:
            admit = admission(service, running, self._authenticator)
        if handler.response_streaming:
            steps, make = self._streaming(handler, admit), grpc.stream_stream_rpc_method_handler
        else:
            make = grpc.stream_unary_rpc_method_handler
            if is_ours and name != _WAIT:
                steps = self._waiting_for_store(handler, admit)
            else:
                steps = self._unary(handler, admit)
        guarded = _guard(steps, f"/{service}/{name}", running)
        if is_ours:
            self.runs[f"/{service}/{name}"] = guarded
        return make(guarded, response_serializer=_encoder(handler))

    def _waiting_for_store(self, handler: _Handler, admit: _Admit) -> _Steps:
        """Return the steps of a call that is answered as soon as the store has answered.

        When its time is over, or when the client disconnects, a write that has begun completes; one
        that has not is cancelled.
        """
        read, waiting, unread = self._reader.read, self._waiting, self.unread
        decode, handle, encode = _decoder(handler), handler.unary_unary, _encoder(handler)

        async def steps(call: RunningCall) -> bytes:
            admit(call)
            request = await read(call)
            waiting.begin(call, len(request))
            try:
                answer = encode(await handle(decode(request), call.context))
            finally:
                waiting.end(call, len(request))
            unread.add(call, len(answer))
            return answer

        return steps

    def _unary(self, handler: _Handler, admit: _Admit) -> _Steps:
        """Return the steps of a call that the store does not limit: of ours, it is a watch."""
        decode, handle, encode = _decoder(handler), handler.unary_unary, _encoder(handler)

        async def steps(call: RunningCall) -> bytes:
            context = call.context
            caller = admit(call)
            with self._watch(caller, context) if caller else contextlib.nullcontext():
                request = decode(await self._reader.read(call))
                answer = encode(await handle(request, context))
            self.unread.add(call, len(answer))
            return answer

        return steps

    def _streaming(self, handler: _Handler, admit: _Admit) -> _Steps:
        """Return the steps of a stream, of one request or of a stream of requests.

        A handler that is a coroutine function writes by itself; others yield their messages.
        """
        decode, reader = _decoder(handler), self._reader

        async def steps(call: RunningCall) -> None:
            context = call.context
            with self._watch(admit(call), context):
                if handler.stream_stream:
                    requests = (decode(request) async for request in reader.read_all(call))
                    stream = handler.stream_stream(requests, context)
                else:
                    stream = handler.unary_stream(decode(await reader.read(call)), context)
                await (stream if inspect.iscoroutine(stream) else self._write(stream, call))

        return steps

    async def _write(self, messages: AsyncGenerator[Any], call: RunningCall) -> None:
        # Closed at once if the call is cancelled, not by garbage collection.
        async with contextlib.aclosing(messages):
            async for message in messages:
                # Written here, not yielded to grpc, which has no write timeout.
                await self.writer.write(call, message)
                del message  # up to a megabyte, and the next may come much later

    def _watch(self, caller: Caller | None, context: Context) -> AbstractContextManager[None]:
        return self.watches.watch(counted_as(caller, context), exempt=caller is None)


def _guard(
    steps: _Steps, method: str, running: RunningCalls
) -> Callable[[Any, Context], Awaitable[Any]]:
    """Count a call while its steps run, and answer their error; a drain waits for that as well."""

    async def guarded(_: Any, context: Context) -> Any:  # noqa: ANN401 - any request and answer
        call = running.begin(context)
        try:
            return await steps(call)
        except (Exception, asyncio.CancelledError) as error:
            await answer_error(context, method, call.leave(error))
            raise
        finally:
            running.finish(call)
            release_call()

    return guarded


def _decoder(handler: _Handler) -> Callable[[bytes], Any]:
    decode = handler.request_deserializer

    def checked(request: bytes) -> Any:  # noqa: ANN401 - any request
        try:
            return decode(request)
        except DecodeError:
            size = len(request)
            raise FieldInvalid("request", f"cannot be decoded (size in bytes: {size})") from None

    return checked


def _encoder(handler: _Handler) -> Callable[[Any], bytes]:
    encode = handler.response_serializer

    def encode_unless_bytes(message: Any) -> bytes:  # noqa: ANN401 - any answer
        # Some are encoded already: from what the store keeps, or once for several receivers.
        return message if type(message) is bytes else encode(message)

    return encode_unless_bytes
