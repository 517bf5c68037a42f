"""Bad input for every RPC, generated from the descriptors, so that new RPCs are covered."""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Iterator, Sequence
from typing import cast

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

import stagecast.v1
from tests.grpc_calls import unary_stream, unary_unary

BUGS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED)

TEXTS = (
    "",
    " ",
    "\0",
    "\x01\x1b[31m\x7f",
    "a\r\nX-Injected: 1",
    "'; DROP TABLE documents; --",
    "' OR 1=1 --",
    "%s%n${jndi:ldap://x}{{7*7}}",
    "../../../../etc/passwd",
    "/",
    "\\\\host\\share\\*",
    "é\u0301\u202e\ufeff",
    "🗎" * 70,
    "00000000-0000-0000-0000-000000000000",
    "NaN",
    "x" * 10_000,
    "文" * 300_000,
)
_NUMBERS = (-1, 0, 1, 7, 2**31 - 1, -(2**31))
_LARGE = (*_NUMBERS, 2**63 - 1, -(2**63))
_BYTES = (b"\xff\xff\xff", b"\x0a\x24too short", b"\x0a\x02\xff\xfe", b"\x0a\x03\xed\xa0\x80")
_MAX_DEPTH = 2  # of messages in messages


def methods() -> dict[str, MethodDescriptor]:
    """Return all RPCs of stagecast by their paths."""
    by_path = {}
    for module in pkgutil.iter_modules(stagecast.v1.__path__, "stagecast.v1."):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(module.name).DESCRIPTOR
            for service in file.services_by_name.values():
                for method in service.methods:
                    by_path[f"/{service.full_name}/{method.name}"] = method
    return by_path


def bad_requests(
    method: MethodDescriptor, *, sound: Message, rng: random.Random
) -> Iterator[bytes]:
    """Yield requests of an RPC with one bad value each, and bytes that are not a message.

    Args:
        method: the RPC.
        sound: a request of any type, whose values are used for fields of the same names, so that
            most requests pass the checks of the ids.
        rng: makes the random bytes.
    """
    empty = GetMessageClass(method.input_type)()
    yield b""
    yield from _BYTES
    yield from (rng.randbytes(rng.randrange(1, 200)) for _ in range(20))
    for field in method.input_type.fields:
        # The right field in the wrong wire type.
        yield bytes([field.number << 3 & 0x7F | rng.choice((0, 1, 5)), *rng.randbytes(8)])
    for request in _with_bad_values(empty, _MAX_DEPTH):
        _complete(request, sound)
        yield request.SerializeToString()


async def send(
    channel: aio.Channel, path: str, request: bytes, within_s: float, key: str = ""
) -> aio.AioRpcError | None:
    """Make a call with these bytes and return its error; read one message of a stream."""
    metadata = (("x-api-key", key),) if key else ()
    try:
        if methods()[path].server_streaming:
            watch = unary_stream(channel, path)(request, timeout=within_s, metadata=metadata)
            await watch.read()
            watch.cancel()
        else:
            await unary_unary(channel, path)(request, timeout=within_s, metadata=metadata)
    except aio.AioRpcError as error:
        return error
    return None


def _with_bad_values(empty: Message, depth: int) -> Iterator[Message]:
    """Yield messages of a type with one bad value each."""
    # The stub of `fields` also names the class of another implementation.
    for field in cast("Sequence[FieldDescriptor]", empty.DESCRIPTOR.fields):
        for value in _bad_values(field, depth):
            message = type(empty)()
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                continue
            target = getattr(message, field.name)
            if field.is_repeated:
                for count in (1, 3):
                    target.extend([value] * count)
            elif field.message_type is not None:
                target.CopyFrom(value)
            else:
                setattr(message, field.name, value)
            yield message


def _bad_values(field: FieldDescriptor, depth: int) -> Iterator[object]:
    if field.message_type is not None:
        if depth:
            empty = GetMessageClass(field.message_type)()
            yield empty
            yield from _with_bad_values(empty, depth - 1)
    elif field.type == FieldDescriptor.TYPE_STRING:
        yield from TEXTS
    elif field.type == FieldDescriptor.TYPE_BOOL:
        yield True
    elif field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM):
        yield from _NUMBERS
    elif field.type == FieldDescriptor.TYPE_INT64:
        yield from _LARGE


def _complete(request: Message, sound: Message) -> None:
    """Fill empty fields of a request with the values of another."""
    for field, value in sound.ListFields():
        same = request.DESCRIPTOR.fields_by_name.get(field.name)
        if same is not None and not same.is_repeated and not getattr(request, field.name):
            setattr(request, field.name, value)
