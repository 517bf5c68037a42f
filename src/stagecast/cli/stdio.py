"""Standard output and error of a command, which may be closed, full, or read by nobody.

What stdout does not take ends the command with one line and one exit code, whatever the command is
and whoever wrote. What stderr does not take is lost, and ends nothing.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import select
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDOUT, _STDERR = 1, 2

_log = logging.getLogger(__name__)


class OutputFailed(Exception):
    """Stdout does not take what is written to it.

    This is no `OSError`: of those, click and rich each make an end of their own.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to stdout: {error.strerror}")
        self.errno = error.errno


def open_missing_descriptors() -> None:
    """Open those of stdin, stdout and stderr that are closed, so that no file gets their numbers.

    They are opened for reading, so that what is written to them fails as it did before.
    """
    for descriptor in (0, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """End the program with exit code 74 if in the block stdout does not take what is written to it.

    A reader that has gone, such as `head`, is no error to be told of.
    """
    sys.stdout = _text(_Stdout(_STDOUT, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Stderr(_STDERR, "w", closefd=False), sys.stderr)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OutputFailed as failure:
        if failure.errno != errno.EPIPE:
            sys.stderr.write(f"Error: {failure}\n")
        sys.exit(os.EX_IOERR)


def echo(text: str = "") -> None:
    """Print a text and a line end to stdout, at once.

    Unlike `click.echo` it keeps to the encoding of stdout, also if that is ASCII.
    """
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def announce(line: str) -> None:
    """Print a line if stdout takes it now, or log why not: who serves goes on all the same."""
    with contextlib.suppress(OSError, ValueError):  # what is no descriptor never blocks
        if not select.select((), (sys.stdout,), (), 0)[1]:
            _log.warning("nobody reads stdout, which was to be told: %s", line)
            return
    try:
        echo(line)
    except OutputFailed as failure:
        _log.warning("%s", failure)


class _Stdout(io.FileIO):
    """Tells the first failure, and takes everything after it: an end must not fail again."""

    _failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        if self._failed:
            return memoryview(data).nbytes
        try:
            written = super().write(data)
            while written is None:  # it does not block, and is full
                select.select((), (self,), ())
                written = super().write(data)
        except OSError as error:
            self._failed = True
            raise OutputFailed(error) from error
        return written


class _Stderr(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        with contextlib.suppress(OSError):
            written = super().write(data)
            if written is not None:
                return written
        return memoryview(data).nbytes


def _text(raw: io.FileIO, before: TextIO | None) -> io.TextIOWrapper:
    """Return a text stream like the one before, in which what the encoding lacks is escaped."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before else "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
