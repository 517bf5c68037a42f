"""Checks of arguments: an error names the argument, what it was, and what is accepted.

Rules for values, such as the characters of an id, are the server's; these are about types, and
about what would otherwise be misread.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from numbers import Real
from typing import Any, SupportsIndex, TypeAlias, TypeVar

from google.protobuf.duration_pb2 import Duration

from stagecast.durations import parse_duration

T = TypeVar("T")

Span: TypeAlias = timedelta | float | str
"""A duration: a timedelta, a number of seconds, or a text such as `90s`, `5m`, `12h` or `30d`."""

INT32 = 2**31 - 1
INT64 = 2**63 - 1
_SPANS = "a number of seconds, a timedelta, or a text such as '90s', '5m' or '12h'"
_MAX_SPAN_S = 315_576_000_000  # of a `Duration`
_MAX_SHOWN = 200  # characters
_SINGLE = (str, bytes, os.PathLike)  # often passed by mistake instead of a list


def refusal(name: str, value: object, accepted: str) -> str:
    """Return the message for an argument that is not accepted."""
    return f"invalid {name} {_shown(value)}; use {accepted}"


def text_of(name: str, value: str, accepted: str = "a text") -> str:
    """Return a text.

    Raises:
        TypeError: it is not a text.
        ValueError: it cannot be sent, such as a file name that is not UTF-8.
    """
    if not isinstance(value, str):
        raise TypeError(refusal(name, value, accepted))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(refusal(name, value, "a text that can be encoded as UTF-8")) from None
    return value


def id_of(name: str, value: str) -> str:
    """Return an id.

    An empty one is refused: it may come from a variable that is not set, and would mean a new id
    or everything.

    Raises:
        TypeError: it is not a text.
        ValueError: it is empty, or cannot be sent.
    """
    if not text_of(name, value, "an id, as a text"):
        raise ValueError(refusal(name, value, "an id that is not empty"))
    return value


def id_or_none(name: str, value: str | None) -> str:
    """Return an id, or the empty text that stands for none.

    Raises:
        TypeError, ValueError: see `id_of`.
    """
    return "" if value is None else id_of(name, value)


def flag_of(name: str, value: bool) -> bool:
    """Return a flag.

    Raises:
        TypeError: it is not a bool, such as the text `no`, which would count as true.
    """
    if not isinstance(value, bool):
        raise TypeError(refusal(name, value, "True or False"))
    return value


def number_of(name: str, value: SupportsIndex, maximum: int = INT64) -> int:
    """Return a whole number.

    Raises:
        TypeError: it is not a whole number.
        ValueError: it is out of range for its field.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(refusal(name, value, "a whole number")) from None
    if abs(number) > maximum:
        raise ValueError(refusal(name, value, f"a number up to {maximum}"))
    return number


def number_or_none(name: str, value: SupportsIndex | None) -> int | None:
    """Return a whole number, or `None`.

    Raises:
        TypeError, ValueError: see `number_of`.
    """
    return None if value is None else number_of(name, value)


def labels_of(name: str, value: Mapping[str, str]) -> dict[str, str]:
    """Return labels.

    Raises:
        TypeError: they are not a mapping of texts.
        ValueError: one cannot be sent.
    """
    accepted = "a mapping of texts, such as {'source': 'crawl'}"
    if not isinstance(value, Mapping):
        raise TypeError(refusal(name, value, accepted))
    return {text_of(name, k, accepted): text_of(name, v, accepted) for k, v in value.items()}


def items_of(name: str, values: Iterable[T]) -> Iterable[T]:
    """Return the values of a list.

    Raises:
        TypeError: they are a single value; a text would be taken as its letters.
    """
    if isinstance(values, _SINGLE) or not isinstance(values, Iterable):
        accepted = f"[{_shown(values)}]" if isinstance(values, _SINGLE) else "a list"
        raise TypeError(f"invalid {name}: {_shown(values)} is not a list; use {accepted}")
    return values


def seconds_of(name: str, span: Span) -> float:
    """Return a duration in seconds, which may be infinite.

    Raises:
        TypeError: it is not a duration.
        ValueError: it is a text without a unit, or not a number.
    """
    if isinstance(span, timedelta):
        return span.total_seconds()
    if isinstance(span, str):
        seconds = parse_duration(span)
    elif isinstance(span, Real) and not isinstance(span, bool):
        seconds = None if math.isnan(span) else float(span)
    else:
        raise TypeError(refusal(name, span, _SPANS))
    if seconds is None:
        raise ValueError(refusal(name, span, _SPANS))
    return seconds


def duration_of(name: str, span: Span | None) -> Duration | None:
    """Return a duration as a message.

    Raises:
        TypeError: it is not a duration.
        ValueError: it is malformed, or infinite.
    """
    if span is None:
        return None
    seconds = seconds_of(name, span)
    if abs(seconds) > _MAX_SPAN_S:
        raise ValueError(refusal(name, span, _SPANS))
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def instance_of(name: str, value: Any, kind: type[T]) -> T:  # noqa: ANN401 - of any type
    """Return a record.

    Raises:
        TypeError: it is of another class.
    """
    if not isinstance(value, kind):
        raise TypeError(refusal(name, value, f"a {kind.__name__}"))
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
