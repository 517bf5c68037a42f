"""The steps of every call: admission, limits, request, response, and the status of an error.

An exception that is not a `StagecastError` is a bug: logged in full, answered in one line.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from stagecast.errors import FieldInvalid, StagecastError
from stagecast.rpc.authentication import Authentication
from stagecast.rpc.limits import Limits, counted_as
from stagecast.rpc.request_reader import RequestReader
from stagecast.rpc.status import DETAILS_KEY, code_of, status_of
from stagecast.rpc.stream_writer import Context, StreamWriter, end
from stagecast.rpc.unread_answers import UnreadAnswers
from stagecast.store import store_timeout

_log = logging.getLogger(__name__)

# The types of grpc speak of threaded handlers; those of grpc.aio are coroutines.
_Handler = Any

# A unary call that stays open as long as a watch.
_WAIT = "/stagecast.v1.StatusService/WaitBatch"


@dataclass(frozen=True, slots=True)
class _Received:
    """A request, or the error of decoding it, and its size in bytes."""

    message: Any
    size: int


class CallInterceptor(aio.ServerInterceptor):
    """Handles every call: admits it, reads its request, sends its responses, maps its error.

    Args:
        authentication: admits calls.
        reader: reads requests.
        writer: writes to streams.
        unread: counts the answers of unary calls, which grpc itself writes.
        limits: counts watches and waiting calls.
        store_s: how long a call may wait for the store; watches and waits have their own limits.
    """

    def __init__(
        self,
        authentication: Authentication,
        reader: RequestReader,
        writer: StreamWriter,
        unread: UnreadAnswers,
        limits: Limits,
        *,
        store_s: float,
    ) -> None:
        self._authentication = authentication
        self._reader = reader
        self._writer = writer
        self._unread = unread
        self._limits = limits
        self._store_s = store_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the handler of the call.

        All handlers become ones with streamed requests: for the others grpc reads the request
        first, before any authentication and without a timeout.
        """
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None
        if handler.unary_unary:
            return grpc.stream_unary_rpc_method_handler(
                self._guard_unary(handler, method), **_serializers(handler)
            )
        return grpc.stream_stream_rpc_method_handler(
            self._guard_stream(handler, method), **_serializers(handler)
        )

    def _guard_unary(
        self, handler: _Handler, method: str
    ) -> Callable[[Any, Context], Awaitable[bytes]]:
        async def guarded(_: Any, context: Context) -> bytes:  # noqa: ANN401 - any request
            async with self._answering(context, method):
                with self._admitting(context, method, long_lived=method == _WAIT):
                    request = await self._reader.read(context)
                    if _waits_for_store(method):
                        message = await self._call_store(handler, request, context)
                    else:
                        message = await handler.unary_unary(_message(request), context)
                    answer: bytes = handler.response_serializer(message)
                    self._unread.add(context, len(answer))
                    return answer
            raise AssertionError  # unreachable: `_answering` raises every error

        return guarded

    def _guard_stream(
        self, handler: _Handler, method: str
    ) -> Callable[[Any, Context], Awaitable[None]]:
        # A handler that is a coroutine function writes by itself; others yield their messages.
        async def guarded(_: Any, context: Context) -> None:  # noqa: ANN401 - any request
            async with self._answering(context, method):
                with self._admitting(context, method, long_lived=True):
                    if inspect.iscoroutinefunction(handler.unary_stream):
                        request = await self._reader.read(context)
                        await handler.unary_stream(_message(request), context)
                        return
                    messages = await self._begin(handler, context)
                    # Closed at once if the call is cancelled, not by garbage collection.
                    async with contextlib.aclosing(messages):
                        async for message in messages:
                            # Written here, not yielded to grpc, which has no write timeout.
                            await self._writer.write(context, message)
                            del message  # up to a megabyte, and the next may come much later

        return guarded

    async def _begin(self, handler: _Handler, context: Context) -> AsyncGenerator[Any]:
        """Return the messages of a stream with one request or a stream of requests."""
        messages: AsyncGenerator[Any]
        if handler.unary_stream:
            messages = handler.unary_stream(_message(await self._reader.read(context)), context)
        else:
            requests = (_message(received) async for received in self._reader.read_all(context))
            messages = handler.stream_stream(requests, context)
        return messages

    @contextlib.asynccontextmanager
    async def _answering(self, context: Context, method: str) -> AsyncGenerator[None]:
        """Answer errors of the block; a drain waits for these answers as well."""
        if not _is_ours(method):
            async with _answering_errors(context, method):
                yield
            return
        with self._authentication.track():
            async with _answering_errors(context, method):
                with self._authentication.until_over():
                    yield

    @contextlib.contextmanager
    def _admitting(self, context: Context, method: str, *, long_lived: bool) -> Iterator[None]:
        """Authenticate a call, and count a long-lived one, before its request is read."""
        caller = self._authentication.admit(method, context) if _is_ours(method) else None
        if not long_lived:
            yield
            return
        with self._limits.watch(counted_as(caller, context), exempt=caller is None):
            yield

    async def _call_store(self, handler: _Handler, request: _Received, context: Context) -> Any:  # noqa: ANN401 - any answer
        """Return the answer of a call that waits for the store.

        After the timeout, or when the client disconnects, a write that has begun completes; one
        that has not is cancelled.

        Raises:
            StoreBusy: too many calls are waiting.
            StoreTimeout: the store does not answer in time.
        """
        with self._limits.wait(request.size):
            async with store_timeout(self._store_s):
                return await handler.unary_unary(_message(request), context)


def _is_ours(method: str) -> bool:
    return method.startswith("/stagecast.")


def _waits_for_store(method: str) -> bool:
    """Return whether a unary call is answered as soon as the store has answered."""
    return _is_ours(method) and method != _WAIT


def _serializers(handler: _Handler) -> dict[str, Any]:
    def deserialize(data: bytes) -> _Received:
        # grpc would answer an error here with UNKNOWN, and log a traceback for every such call.
        try:
            return _Received(handler.request_deserializer(data), len(data))
        except DecodeError as error:
            return _Received(error, len(data))

    def serialize(message: Any) -> bytes:  # noqa: ANN401 - any answer
        # Messages with several receivers are encoded once, by the sender.
        return message if type(message) is bytes else handler.response_serializer(message)

    return {"request_deserializer": deserialize, "response_serializer": serialize}


def _message(received: _Received) -> Any:  # noqa: ANN401 - any request
    """Return the message of a received request.

    Raises:
        FieldInvalid: it could not be decoded.
    """
    if isinstance(received.message, DecodeError):
        raise FieldInvalid("request", f"cannot be decoded (size in bytes: {received.size})")
    return received.message


@contextlib.asynccontextmanager
async def _answering_errors(context: Context, method: str) -> AsyncGenerator[None]:
    """End the call with the status of an error of the block."""
    try:
        yield
    except StagecastError as error:
        await abort(context, error)
    except (aio.AbortError, asyncio.CancelledError):
        raise
    except NotImplementedError:  # an RPC of the health library that we do not implement
        await end(context, grpc.StatusCode.UNIMPLEMENTED, "not implemented")
    except Exception:
        await _abort_on_bug(context, method)


async def abort(context: Context, error: StagecastError) -> NoReturn:
    """End a call with the status of an error; see `end`."""
    status = status_of(error)
    await end(
        context,
        code_of(error),
        status.message,
        ((DETAILS_KEY, status.SerializeToString()),),
    )


async def _abort_on_bug(context: Context, method: str) -> NoReturn:
    _log.exception("%s failed", method)
    await end(context, grpc.StatusCode.INTERNAL, "internal error; see the log of the server")
