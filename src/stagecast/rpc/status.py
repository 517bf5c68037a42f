"""The gRPC status of each error: its code, from one table, and its details.

A client sees a status code, one line for people, and `google.rpc` details for programs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

from stagecast.errors import (
    CredentialsError,
    DeniedError,
    ExhaustedError,
    ExistsError,
    HistoryError,
    InvalidError,
    NotFoundError,
    RefusedError,
    RetryableError,
    StagecastError,
    Unavailable,
)
from stagecast.rpc.running_calls import Context
from stagecast.rpc.stream_writer import end

_log = logging.getLogger(__name__)

DOMAIN = "stagecast"
DETAILS_KEY = "grpc-status-details-bin"

_CODES: dict[type[StagecastError], grpc.StatusCode] = {
    CredentialsError: grpc.StatusCode.UNAUTHENTICATED,
    DeniedError: grpc.StatusCode.PERMISSION_DENIED,
    InvalidError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    ExistsError: grpc.StatusCode.ALREADY_EXISTS,
    RefusedError: grpc.StatusCode.FAILED_PRECONDITION,
    HistoryError: grpc.StatusCode.OUT_OF_RANGE,
    ExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}

# Clients accept 8 KiB of trailing metadata; beyond it they report another error. The rest is for
# what grpc adds, and for the names of the keys.
_MAX_TRAILING_BYTES = 7_500
_MAX_RULE_BYTES = 1_500


def code_of(error: StagecastError) -> grpc.StatusCode:
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
    status = Status(code=code_of(error).value[0], details=map(_pack, details))
    room = _MAX_TRAILING_BYTES - status.ByteSize() * 4 / 3  # they go as base64
    status.message = _shorten(str(error), room, cost=_bytes_as_message)
    return status


async def answer_error(context: Context, method: str, error: BaseException | None) -> None:
    """End a call with the status of an error, unless it has ended.

    Any other exception than a `StagecastError` is a bug: logged in full, answered in one line.

    Raises:
        grpc.aio.AbortError, asyncio.CancelledError: the call has ended; see `end`.
    """
    if isinstance(error, StagecastError):
        await abort(context, error)
    if isinstance(error, NotImplementedError):  # an RPC of the health library
        await end(context, grpc.StatusCode.UNIMPLEMENTED, "not implemented")
    if not isinstance(error, (aio.AbortError, asyncio.CancelledError)):
        _log.error("%s failed", method, exc_info=error)
        await end(context, grpc.StatusCode.INTERNAL, "internal error; see the log of the server")


async def abort(context: Context, error: StagecastError) -> NoReturn:
    """End a call with the status of an error; see `end`."""
    status = status_of(error)
    details = ((DETAILS_KEY, status.SerializeToString()),)
    await end(context, code_of(error), status.message, details)


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
