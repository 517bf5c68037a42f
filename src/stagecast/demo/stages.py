"""The stages of the demo's pipeline, each a pass from one file to the next.

So a text of any size takes little memory. The functions block and must be called in a thread.
On a full disk they raise `OSError`, as does closing a file.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, AnyStr

from stagecast.demo import text
from stagecast.failures import reason_of

_BLOCK = 65_536  # bytes or characters
_IN_MEMORY = 262_144  # bytes


class IngestionError(Exception):
    """A document cannot be ingested; `reason` is for programs, the message for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def scratch() -> IO[str]:
    """Return a temporary file to pass data to the next stage; in memory while it is small.

    It is deleted when it is closed, which also ends a stage that still uses it.
    """
    return tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8", newline="\n")


def parse(path: Path, parsed: IO[str]) -> None:
    """Write the text of a file.

    Raises:
        IngestionError: the file cannot be read, or is not UTF-8.
    """
    _write(_text_of(path), parsed)


def clean(parsed: IO[str], cleaned: IO[str]) -> None:
    """Write the clean text.

    Raises:
        IngestionError: the clean text is empty.
    """
    if not _write(text.clean(_blocks(parsed)), cleaned):
        raise IngestionError("NO_TEXT", "the document contains no text")


def split(cleaned: IO[str], chunks: IO[str]) -> int:
    """Write the chunks, each as a line of JSON, and return how many there are."""
    return _write((f"{json.dumps(chunk)}\n" for chunk in text.split(_blocks(cleaned))), chunks)


def next_chunks(chunks: IO[str], count: int) -> list[str]:
    """Return the next `count` chunks, or fewer at the end."""
    return [json.loads(line) for line in islice(chunks, count)]


def _text_of(path: Path) -> Iterator[str]:
    try:
        if path.exists() and not path.is_file():  # a pipe may never end
            raise IngestionError("READ_ERROR", "not a regular file")
        with path.open("rb") as file:
            yield from text.decode(_blocks(file))
    except OSError as error:
        raise IngestionError("READ_ERROR", reason_of(error)) from error
    except ValueError as error:
        raise IngestionError("DECODE_ERROR", str(error)) from error


def _blocks(file: IO[AnyStr]) -> Iterator[AnyStr]:
    while block := file.read(_BLOCK):
        yield block


def _write(pieces: Iterable[str], file: IO[str]) -> int:
    """Write the pieces that are not empty, rewind the file, and return their number."""
    count = 0
    for piece in filter(None, pieces):
        file.write(piece)
        count += 1
    file.seek(0)
    return count
