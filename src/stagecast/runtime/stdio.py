"""Standard output and error of a command, which may be closed, full, or not read.

A failed write to stdout ends every command with one line and one exit code; a stdout that is not
read blocks it. Output to a stderr that is not read is dropped after a moment, without an error.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import errno
import io
import logging
import os
import select
import stat
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, TextIO

from stagecast.escaping import encoding_of, escape_character

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDOUT, _STDERR = 1, 2
_TIMEOUT_S = 1.0  # in total, for a stderr that is not read

_CHECK_READER_S = 1.0

_ESCAPED = "stagecast.escaped"  # Python's own escapes letters and bytes alike

_log = logging.getLogger(__name__)


class OutputFailed(Exception):
    """Stdout cannot be written.

    Not an `OSError`, which click and rich handle in their own ways.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to stdout: {error.strerror}")
        self.errno = error.errno


def open_missing_descriptors() -> None:
    """Open closed stdin, stdout and stderr, so that no file gets their numbers.

    They are opened for reading, so that writing to them still fails.
    """
    for descriptor in (0, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """End the program with exit code 74 if a write to stdout fails in the block.

    A closed pipe, such as by `head`, is not reported.
    """
    sys.stdout = as_text(_Stdout(_STDOUT, "w", closefd=False), sys.stdout)
    sys.stderr = as_text(_Stderr(_STDERR, "w", closefd=False), sys.stderr)
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
    """Print a line to stdout, unbuffered.

    Unlike `click.echo`, it uses the encoding of stdout, even ASCII.
    """
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def announce(line: str) -> None:
    """Print a line without blocking, or log why that is impossible; a server continues anyway."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor never blocks
        if not select.select((), (sys.stdout,), (), 0)[1]:
            _log.warning("stdout is not read; not printed: %s", line)
            return
    try:
        echo(line)
    except OutputFailed as failure:
        _log.warning("%s", failure)


def is_stuck() -> bool:
    """Return whether a write to stdout is blocked."""
    raw = _guarded()
    return raw is not None and raw.is_stuck()


@contextlib.asynccontextmanager
async def ended_without_reader() -> AsyncIterator[None]:
    """End the block soon after the reader of stdout has closed the pipe, even without a write.

    Raises:
        ExceptionGroup: of `OutputFailed`, or of the errors of the block.
    """
    async with asyncio.TaskGroup() as group:
        checking = group.create_task(_fail_without_reader())
        yield
        checking.cancel()


async def _fail_without_reader() -> None:
    raw = _guarded()
    if raw is None or not raw.is_pipe():
        return
    while raw.has_reader():  # noqa: ASYNC110 - only polling detects it
        await asyncio.sleep(_CHECK_READER_S)
    raise OutputFailed(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))


def _guarded() -> _Stdout | None:
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Stdout) else None


class _Stdout(io.FileIO):
    """Raises at the first failure, and drops everything after it, so that cleanup does not fail."""

    _failed = False
    _writing = False

    def write(self, data: ReadableBuffer, /) -> int:
        if self._failed:
            return memoryview(data).nbytes
        self._writing = True
        try:
            return self._write(memoryview(data).cast("B")[: select.PIPE_BUF])
        except OSError as error:
            self._failed = True
            raise OutputFailed(error) from error
        except BaseException:  # of a signal, while blocked
            self._failed = True
            raise
        finally:
            self._writing = False

    def is_stuck(self) -> bool:
        """Return whether a write is blocked."""
        return self._writing and not _is_writable(self)

    def is_pipe(self) -> bool:
        """Return whether it is a pipe or socket, which needs a reader."""
        try:
            mode = os.fstat(self.fileno()).st_mode
        except OSError:
            return False
        return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)

    def has_reader(self) -> bool:
        """Return whether the other end of a pipe is open."""
        poll = select.poll()
        poll.register(self, 0)  # errors are always reported
        return not poll.poll(0)

    def _write(self, data: memoryview) -> int:
        """Wait until it is writable, so that the call itself does not block."""
        while True:
            _is_writable(self, None)
            written = super().write(data)
            if written is not None:  # `None`: it is non-blocking, and full
                return written


class _Stderr(io.FileIO):
    """Accepts everything, and waits only briefly for a reader."""

    _timeout_s = _TIMEOUT_S

    def write(self, data: ReadableBuffer, /) -> int:
        rest = memoryview(data).cast("B")
        length = len(rest)
        with contextlib.suppress(OSError):
            while rest and self._is_ready():
                written = super().write(rest[: select.PIPE_BUF])
                rest = rest[written or 0 :]
        return length

    def _is_ready(self) -> bool:
        begin_s = time.monotonic()
        ready = _is_writable(self, max(0.0, self._timeout_s))
        self._timeout_s -= time.monotonic() - begin_s
        return ready


def _is_writable(file: io.FileIO, timeout_s: float | None = 0.0) -> bool:
    """Return whether a file is writable, once it is or the time is over."""
    return bool(select.select((), (file,), (), timeout_s)[1])


def as_text(raw: io.RawIOBase, before: TextIO | None) -> io.TextIOWrapper:
    """Return a text stream with the encoding of `before` that escapes characters it lacks."""
    codecs.register_error(_ESCAPED, _escape_lacking)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding_of(before),
        errors=_ESCAPED,
        line_buffering=True,
    )


def _escape_lacking(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(map(escape_character, lacking)), error.end
