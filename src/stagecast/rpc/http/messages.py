"""Messages as canonical protobuf JSON.

`json_format` takes three times as long to write it: it looks up again for each value what a class
always does with a field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any, TypeVar

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast.errors import FieldInvalid
from stagecast.escaping import escape_controls, quote
from stagecast.threads import run_in_daemon

T = TypeVar("T")
Convert = Callable[[Any], Any]

_NUMBER = re.compile(r"\s*[+-]?\d+\s*")  # also a way to write a value of an enum
_LARGE = 1 << 16  # bytes of a message whose conversion takes more than a few milliseconds


async def run(convert: Callable[[], T], size: int) -> T:
    """Convert a message of this size; a large one on a thread, where it does not hold up calls."""
    return await run_in_daemon(convert) if size > _LARGE else convert()


async def encode_json(kind: type[Message], body: bytes) -> bytes:
    """Return the encoding of a message that was sent as JSON; unknown fields are ignored.

    Raises:
        FieldInvalid: it is malformed.
    """
    return await run(partial(_encode, kind, body), len(body))


def dump(message: Message) -> bytes:
    """Return a message as JSON."""
    return orjson.dumps(_message(message.DESCRIPTOR)(message))


def _encode(kind: type[Message], body: bytes) -> bytes:
    message = kind()
    try:
        # As with binary requests, a field that only a newer client knows is no error.
        json_format.Parse(body, message, ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        rule = f"cannot be decoded as JSON: {escape_controls(str(error))}"
        raise FieldInvalid("request", rule) from None
    if _enums(message.DESCRIPTOR):
        _check_enums(message.DESCRIPTOR, json.loads(body), "")
    return message.SerializeToString()


def _check_enums(kind: Any, fields: dict[str, Any], path: str) -> None:  # noqa: ANN401 - as below
    """Refuse unknown names in enums: the parser ignores them, as if a list had no such filter.

    Raises:
        FieldInvalid: there is one.
    """
    for name, field in _enums(kind):
        value = fields.get(name)
        if not field.is_repeated:
            _check_enum(field, value, path + field.name)
            continue
        for index, one in enumerate(value or ()):
            _check_enum(field, one, f"{path}{field.name}[{index}]")


def _check_enum(field: Any, value: Any, path: str) -> None:  # noqa: ANN401 - of the parsed JSON
    if field.message_type:
        _check_enums(field.message_type, value or {}, f"{path}.")
    elif isinstance(value, str) and not _NUMBER.fullmatch(value):
        names = [*field.enum_type.values_by_name][1:]  # the first means that there is none
        if value not in field.enum_type.values_by_name:
            raise FieldInvalid(path, f"unknown value {quote(value)}; use {', '.join(names)}")


@cache
def _enums(kind: Any) -> Sequence[tuple[str, Any]]:  # noqa: ANN401 - typed as one of two classes
    """Return the fields of a kind that are enums or have some, by each of their names."""
    return [
        (name, field)
        for field in kind.fields
        if field.enum_type or (field.message_type and _enums(field.message_type))
        for name in sorted({field.name, field.json_name})
    ]


@cache
def _message(kind: Descriptor) -> Convert:
    """Return a function that converts messages of a kind into what their JSON says."""
    if kind.full_name == Timestamp.DESCRIPTOR.full_name:
        return lambda time: _time(time.seconds, time.nanos)
    if kind.full_name == Duration.DESCRIPTOR.full_name:
        return Duration.ToJsonString
    fields: dict[int, tuple[str, Convert]] = {}

    def convert(message: Message) -> dict[str, Any]:
        converted = {}
        for field, value in message.ListFields():
            name, convert_value = fields[field.number]
            converted[name] = convert_value(value)
        return converted

    for field in kind.fields:  # afterwards, since a kind may have fields of its own kind
        fields[field.number] = field.json_name, _field(field)
    return convert


# What one call wrote has one time, and a document keeps the times of its earlier stages.
@lru_cache(maxsize=1 << 12)
def _time(seconds: int, nanos: int) -> str:
    return Timestamp(seconds=seconds, nanos=nanos).ToJsonString()


def _field(field: Any) -> Convert:  # noqa: ANN401 - a descriptor, typed as one of two classes
    if field.message_type and field.message_type.GetOptions().map_entry:
        return dict  # of strings: there are no others
    convert = _value(field)
    return (lambda values: [*map(convert, values)]) if field.is_repeated else convert


def _value(field: Any) -> Convert:  # noqa: ANN401 - as above
    if field.message_type:
        return _message(field.message_type)
    if field.enum_type:
        names = {value.number: value.name for value in field.enum_type.values}
        return lambda number: names.get(number, number)
    # 64 bits are more than a number of JavaScript can hold.
    is_long = field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
    return str if is_long else _same


def _same(value: Any) -> Any:  # noqa: ANN401 - any value
    return value
