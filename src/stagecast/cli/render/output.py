"""Where commands write to: a terminal, where people read, or a pipe, where programs do.

In a pipe nothing is cut or coloured: each thing is a line, its fields are separated by tabs, and
empty fields are kept, so that `cut` and `awk` find them by number. An id is what it is; in texts
that may be anything, what could end a field or a line is escaped, and backslashes are doubled.
Where the encoding of stdout lacks characters, that is done to every field, so that no two look the
same there.
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
    """Tell whether people read it, on something that can move a cursor."""
    return console.file.isatty() and console.is_interactive


def print_json(messages: Iterable[Message]) -> None:
    """Print each message as one line of protobuf JSON."""
    _print(
        MessageToJson(message, preserving_proto_field_name=True, indent=None)
        for message in messages
    )


def print_things(things: Iterable[M], fields: Callable[[M], Row], *, as_json: bool) -> None:
    """Print each thing as one line: protobuf JSON, or its fields, whatever is in them."""
    if as_json:
        print_json(things)
    else:
        print_rows(map(fields, things))


def print_rows(rows: Iterable[Row]) -> None:
    """Print each row as one line, with tabs between its fields."""
    _print("\t".join(map(shown, row)) for row in rows)


def _print(lines: Iterable[str]) -> None:
    """Print lines in one write: a flush for each would take longer than all the rest."""
    text = "\n".join(lines)
    if text:
        echo(text)
