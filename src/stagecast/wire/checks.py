"""Validation of request fields.

Every function raises `FieldInvalid`, with the path of the field and the rule, for an invalid value.
The path is relative: `each` adds the entry, so that a valid one costs no path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast.errors import FieldInvalid
from stagecast.escaping import is_printable, quote
from stagecast.model import BATCH_ID, SECOND_US, canonical_uuid

E = TypeVar("E", bound=IntEnum)
M = TypeVar("M")
T = TypeVar("T")

_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_MAX_SECONDS = 253_402_300_799  # the end of the year 9999, where Timestamp ends
_MIN_SECONDS = -62_135_596_800  # the beginning of the year 1
_DAY_S = 86_400


def dataset_id(value: str) -> str:
    """Return a dataset id in lower case."""
    canonical = canonical_uuid(value)
    if canonical is None:
        raise FieldInvalid(
            "dataset_id", "must be a UUID such as 7c9e6679-7425-40de-944b-e07fc1f90ae7"
        )
    return canonical


def batch_id(value: str) -> str:
    """Return a batch id; `.` and `..` would vanish from the path of a URL."""
    if not BATCH_ID.fullmatch(value) or value in (".", ".."):
        raise FieldInvalid("batch_id", "must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ -")
    return value


def document_id(field: str, value: str) -> str:
    """Return a document id."""
    return text(field, value, min_length=1, max_length=256)


def text(field: str, value: str, *, min_length: int, max_length: int) -> str:
    """Return a printable text; lengths are in characters."""
    if not min_length <= len(value) <= max_length:
        raise FieldInvalid(
            field, f"must have {min_length} to {max_length} characters, has {len(value)}"
        )
    if not is_printable(value):
        raise FieldInvalid(field, "must have printable characters only")
    return value


def labels(field: str, value: Mapping[str, str]) -> dict[str, str]:
    """Return labels: at most 32 pairs, sorted by key."""
    if len(value) > 32:
        raise FieldInvalid(field, f"must have at most 32 pairs, has {len(value)}")
    try:
        return {
            text("key", key, min_length=1, max_length=64): text(
                f"value of {quote(key)}", text_value, min_length=0, max_length=256
            )
            for key, text_value in sorted(value.items())
        }
    except FieldInvalid as error:
        raise FieldInvalid(field, f"{error.field} {error.rule}") from None


def count(field: str, number: int, *, minimum: int, maximum: int) -> None:
    """Check the number of entries."""
    if not minimum <= number <= maximum:
        raise FieldInvalid(field, f"must have {minimum} to {maximum} entries, has {number}")


def each(field: str, convert: Callable[[M], T], entries: Iterable[M]) -> list[T]:
    """Return the converted entries of a repeated field; the path of an error has the index."""
    converted: list[T] = []
    try:
        for entry in entries:
            converted.append(convert(entry))  # noqa: PERF401 - its length is the index of an error
    except FieldInvalid as error:
        path = f"{field}[{len(converted)}]"
        raise FieldInvalid(f"{path}.{error.field}" if error.field else path, error.rule) from None
    return converted


def reason(field: str, value: str) -> str:
    """Return the machine-readable reason of an error."""
    if not _REASON.fullmatch(value):
        raise FieldInvalid(
            field, "must be 1 to 64 characters of A-Z 0-9 _, beginning with a letter"
        )
    return value


def member(field: str, enum: type[E], value: int) -> E:
    """Return the enum member with a number."""
    try:
        return enum(value)
    except ValueError:
        raise FieldInvalid(field, f"unknown enum value {value}") from None


def span_us(field: str, value: Duration, *, min_s: int, max_s: int, zero: bool) -> int:
    """Return a duration in microseconds; `zero` also allows 0."""
    if abs(value.nanos) >= 10**9 or value.seconds * value.nanos < 0:
        raise FieldInvalid(field, "nanos must be below a second and have the sign of seconds")
    span = value.seconds * SECOND_US + value.nanos // 1_000
    if zero and not value.seconds and not value.nanos:
        return 0
    if not min_s * SECOND_US <= span <= max_s * SECOND_US:
        or_zero = "0, or " if zero else ""
        raise FieldInvalid(field, f"must be {or_zero}{_format(min_s)} to {_format(max_s)}")
    return span


def moment_us(field: str, value: Timestamp) -> int:
    """Return a time in microseconds since the epoch."""
    if not _MIN_SECONDS <= value.seconds <= _MAX_SECONDS or not 0 <= value.nanos < 10**9:
        raise FieldInvalid(field, "must be a time in the years 1 to 9999")
    return value.seconds * SECOND_US + value.nanos // 1_000


def _format(seconds: int) -> str:
    if seconds >= _DAY_S:
        return f"{seconds // _DAY_S} days"
    return f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s"
