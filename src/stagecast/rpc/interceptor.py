"""Errors to gRPC statuses with their details, in one table, for every call.

A client sees a status code, one line for people, and `google.rpc` details for programs.
Whatever is not raised on purpose is a bug: logged in full, answered in one line.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

from stagecast.errors import (
    CredentialsError,
    DeniedError,
    ExhaustedError,
    ExistsError,
    FieldInvalid,
    HistoryError,
    InvalidError,
    NotFoundError,
    RefusedError,
    RetryableError,
    StagecastError,
    UnavailableError,
)
from stagecast.rpc.authentication import Authentication
from stagecast.rpc.limits import Limits, counted_as
from stagecast.rpc.request_reader import RequestReader
from stagecast.rpc.stream_writer import Context, StreamWriter, end
from stagecast.rpc.unread_answers import UnreadAnswers
from stagecast.store import store_timeout

DOMAIN = "stagecast"

_CODES: dict[type[StagecastError], grpc.StatusCode] = {
    CredentialsError: grpc.StatusCode.UNAUTHENTICATED,
    DeniedError: grpc.StatusCode.PERMISSION_DENIED,
    InvalidError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    ExistsError: grpc.StatusCode.ALREADY_EXISTS,
    RefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    HistoryError: grpc.StatusCode.OUT_OF_RANGE,
    ExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
}

_DETAILS_KEY = "grpc-status-details-bin"
# Clients take 8 KiB of trailing metadata; beyond it they hear another error. The rest is for what
# grpc adds, and for the names of the keys.
_MAX_TRAILING_BYTES = 7_500
_MAX_RULE_BYTES = 1_500

_log = logging.getLogger(__name__)

# The types of grpc speak of threaded handlers; those of grpc.aio are coroutines.
_Handler = Any

# It has one answer, and waits for it as long as a watch.
_WAIT = "/stagecast.v1.StatusService/WaitBatch"


@dataclass(frozen=True, slots=True)
class _Received:
    """A request, or the error of what is none, and how many bytes it had."""

    message: Any
    size: int


class CallInterceptor(aio.ServerInterceptor):
    """Ends every call that raised with the status of its error.

    Args:
        door: what calls come in by.
        arrivals: how requests are read.
        pace: how streams are written to.
        unread: the answers of unary calls, which grpc itself writes.
        limits: what may be under way at once.
        store_s: how long a call may wait for the store; those that stay open have limits of
            their own.
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
        """Wrap the handler that answers the call.

        All become such as read their requests themselves: of others grpc reads the request first,
        whoever sends it, and for as long as it takes.
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
                with self._admitting(context, method, lasting=method == _WAIT):
                    request = await self._reader.read(context)
                    if _waits_for_store(method):
                        message = await self._ask(handler, request, context)
                    else:
                        message = await handler.unary_unary(_message(request), context)
                    answer: bytes = handler.response_serializer(message)
                    self._unread.add(context, len(answer))
                    return answer
            raise AssertionError  # what is not answered is raised

        return guarded

    def _guard_stream(
        self, handler: _Handler, method: str
    ) -> Callable[[Any, Context], Awaitable[None]]:
        async def guarded(_: Any, context: Context) -> None:  # noqa: ANN401 - any request
            async with self._answering(context, method):
                with self._admitting(context, method, lasting=True):
                    messages = await self._begin(handler, context)
                    # Closed here and now if the call is cancelled, not with the garbage.
                    async with contextlib.aclosing(messages):
                        async for message in messages:
                            # Here and not by a generator: grpc waits for ever.
                            await self._writer.write(context, message)
                            del message  # of a megabyte, and the next may come much later

        return guarded

    async def _begin(self, handler: _Handler, context: Context) -> AsyncGenerator[Any]:
        """Return the messages of a stream that answers one request, or each of many."""
        messages: AsyncGenerator[Any]
        if handler.unary_stream:
            messages = handler.unary_stream(_message(await self._reader.read(context)), context)
        else:
            requests = (_message(one) async for one in self._reader.read_all(context))
            messages = handler.stream_stream(requests, context)
        return messages

    @contextlib.asynccontextmanager
    async def _answering(self, context: Context, method: str) -> AsyncGenerator[None]:
        """Answer what the block raises; who drains waits for that as well."""
        if not _is_ours(method):
            async with _answering_errors(context, method):
                yield
            return
        with self._authentication.inside():
            async with _answering_errors(context, method), self._authentication.until_over():
                yield

    @contextlib.contextmanager
    def _admitting(self, context: Context, method: str, *, lasting: bool) -> Iterator[None]:
        """Let a call in for as long as the block, also before its request has come."""
        caller = self._authentication.admit(method, context) if _is_ours(method) else None
        if not lasting:
            yield
            return
        with self._limits.watch(counted_as(caller, context), inside=caller is not None):
            yield

    async def _ask(self, handler: _Handler, request: _Received, context: Context) -> Any:  # noqa: ANN401 - any answer
        """Return the answer of a call that waits for the store.

        A write that has begun goes on when the time is over, or the client has left; one that has
        not is undone.

        Raises:
            StoreBusy: too many calls wait.
            StoreTimeout: the store does not answer.
        """
        with self._limits.wait(request.size):
            async with store_timeout(self._store_s):
                return await handler.unary_unary(_message(request), context)


def _is_ours(method: str) -> bool:
    return method.startswith("/stagecast.")


def _waits_for_store(method: str) -> bool:
    """Tell whether a unary call is answered as soon as the store has answered."""
    return _is_ours(method) and method != _WAIT


def _code_of(error: StagecastError) -> grpc.StatusCode:
    """Return the status code of an error."""
    return next(_CODES[base] for base in type(error).__mro__ if base in _CODES)


def status_of(error: StagecastError) -> Status:
    """Return the whole status of an error, with its details."""
    details: list[Message] = [
        ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    ]
    if isinstance(error, InvalidError):
        rule = _shorten(error.rule, _MAX_RULE_BYTES, cost=_bytes_of)
        violation = BadRequest.FieldViolation(field=error.field, description=rule)
        details.append(BadRequest(field_violations=[violation]))
    if isinstance(error, RetryableError):
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1_000))
        details.append(RetryInfo(retry_delay=delay))
    status = Status(code=_code_of(error).value[0], details=map(_pack, details))
    room = _MAX_TRAILING_BYTES - status.ByteSize() * 4 / 3  # they go as base64
    status.message = _shorten(str(error), room, cost=_bytes_as_message)
    return status


def _shorten(text: str, max_bytes: float, *, cost: Callable[[str], float]) -> str:
    """Return a text, or its beginning and an ellipsis."""
    if sum(map(cost, text)) <= max_bytes:
        return text
    left = max_bytes - cost("…")
    length = 0
    while (left := left - cost(text[length])) >= 0:
        length += 1
    return text[:length] + "…"


def _bytes_of(character: str) -> float:
    return len(character.encode())


def _bytes_as_message(character: str) -> float:
    """Return how many bytes a character takes: percent-encoded, and as base64 in the details."""
    size = len(character.encode())
    plain = " " <= character <= "~" and character != "%"
    return (size if plain else 3 * size) + size * 4 / 3


def _pack(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


def _serializers(handler: _Handler) -> dict[str, Any]:
    def deserialize(data: bytes) -> _Received:
        # An error here would be told as UNKNOWN, with a traceback in the log for every such call.
        try:
            return _Received(handler.request_deserializer(data), len(data))
        except DecodeError as error:
            return _Received(error, len(data))

    def serialize(message: Any) -> bytes:  # noqa: ANN401 - any answer
        # What many are sent is encoded once.
        return message if type(message) is bytes else handler.response_serializer(message)

    return {"request_deserializer": deserialize, "response_serializer": serialize}


def _message(received: _Received) -> Any:  # noqa: ANN401 - any request
    """Return a request that was received.

    Raises:
        FieldInvalid: it could not be decoded.
    """
    if isinstance(received.message, DecodeError):
        raise FieldInvalid("request", f"cannot be decoded (size in bytes: {received.size})")
    return received.message


@contextlib.asynccontextmanager
async def _answering_errors(context: Context, method: str) -> AsyncGenerator[None]:
    """End the call with the status of what the block raises."""
    try:
        yield
    except StagecastError as error:
        await abort(context, error)
    except (aio.AbortError, asyncio.CancelledError):
        raise
    except NotImplementedError:  # an RPC that the library of health has and we do not
        await end(context, grpc.StatusCode.UNIMPLEMENTED, "not implemented")
    except Exception:
        await _abort_on_bug(context, method)


async def abort(context: Context, error: StagecastError) -> NoReturn:
    """End a call with the status of an error; see `end`."""
    status = status_of(error)
    await end(
        context,
        _code_of(error),
        status.message,
        ((_DETAILS_KEY, status.SerializeToString()),),
    )


async def _abort_on_bug(context: Context, method: str) -> NoReturn:
    _log.exception("%s failed", method)
    await end(context, grpc.StatusCode.INTERNAL, "internal error; the server's log tells more")
