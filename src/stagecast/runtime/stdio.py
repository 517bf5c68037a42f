"""Standard output and error of a command, which may be closed, full, or read by nobody.

What stdout does not take ends the command with one line and one exit code, whatever the command is
and whoever wrote; as long as it takes nothing, the command waits. What stderr does not take within
a moment is lost, and ends nothing.
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
_TIMEOUT_S = 1.0  # with a stderr that takes nothing, in the whole life of a command

_CHECK_READER_S = 1.0

_ESCAPED = "stagecast.escaped"  # as Python's own has it, a letter would look like a byte

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


def is_stuck() -> bool:
    """Tell whether something is being written to stdout that it does not take now."""
    raw = _guarded()
    return raw is not None and raw.is_stuck()


@contextlib.asynccontextmanager
async def ended_without_reader() -> AsyncIterator[None]:
    """End the block soon after the reader of stdout has gone, also while nothing is written.

    Raises:
        ExceptionGroup: of `OutputFailed`, or of what the block raised.
    """
    async with asyncio.TaskGroup() as group:
        checking = group.create_task(_fail_without_reader())
        yield
        checking.cancel()


async def _fail_without_reader() -> None:
    raw = _guarded()
    if raw is None or not raw.is_pipe():
        return
    while raw.has_reader():  # noqa: ASYNC110 - nothing tells of it but the descriptor
        await asyncio.sleep(_CHECK_READER_S)
    raise OutputFailed(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))


def _guarded() -> _Stdout | None:
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Stdout) else None


class _Stdout(io.FileIO):
    """Tells the first failure, and takes everything after it: an end must not fail again."""

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
        except BaseException:  # a signal's, in the midst of waiting
            self._failed = True
            raise
        finally:
            self._writing = False

    def is_stuck(self) -> bool:
        """Tell whether a write is under way, but cannot go on."""
        return self._writing and not _takes(self)

    def is_pipe(self) -> bool:
        """Tell whether somebody reads the other end; of terminals and files, nobody need."""
        try:
            mode = os.fstat(self.fileno()).st_mode
        except OSError:
            return False
        return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)

    def has_reader(self) -> bool:
        """Tell whether the other end of a pipe is open."""
        poll = select.poll()
        poll.register(self, 0)  # errors are told of unasked
        return not poll.poll(0)

    def _write(self, data: memoryview) -> int:
        """Write when it takes so much: a pipe that does is not waited for within the call."""
        while True:
            _takes(self, None)
            written = super().write(data)
            if written is not None:  # it does not block, and is full
                return written


class _Stderr(io.FileIO):
    """Takes everything, and waits a moment at most for somebody to read it."""

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
        ready = _takes(self, max(0.0, self._timeout_s))
        self._timeout_s -= time.monotonic() - begin_s
        return ready


def _takes(file: io.FileIO, timeout_s: float | None = 0.0) -> bool:
    """Tell whether a file takes something, once it does or the time is over."""
    return bool(select.select((), (file,), (), timeout_s)[1])


def as_text(raw: io.RawIOBase, before: TextIO | None) -> io.TextIOWrapper:
    """Return a text stream like the one before, in which what the encoding lacks is escaped."""
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
