"""Output to a terminal, for people, or to a pipe, for programs.

In a pipe nothing is cut or coloured: one item a line, fields separated by tabs, empty fields
included, so that `cut` and `awk` find fields by number. Ids are printed unchanged; in free texts,
characters that could end a field or a line are escaped, and backslashes are doubled. If the
encoding of stdout lacks characters, this applies to every field, so that different values stay
different.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, TypeVar

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.console import Console

from stagecast.cli.render.formatting import shown
from stagecast.runtime.stdio import echo

M = TypeVar("M", bound=Message)
Row: TypeAlias = Sequence[str]


def is_terminal(console: Console) -> bool:
    """Return whether the output is a terminal that can move its cursor."""
    return console.file.isatty() and console.is_interactive


def print_json(messages: Iterable[Message]) -> None:
    """Print each message as one line of protobuf JSON."""
    _print(
        MessageToJson(message, preserving_proto_field_name=True, indent=None)
        for message in messages
    )


def print_messages(messages: Iterable[M], fields: Callable[[M], Row], *, as_json: bool) -> None:
    """Print each message as one line of protobuf JSON or of fields."""
    if as_json:
        print_json(messages)
    else:
        print_rows(map(fields, messages))


def print_rows(rows: Iterable[Row]) -> None:
    """Print each row as one line, with tabs between its fields."""
    _print("\t".join(map(shown, row)) for row in rows)


def _print(lines: Iterable[str]) -> None:
    """Print lines in one write: flushing each would dominate the time."""
    text = "\n".join(lines)
    if text:
        echo(text)
