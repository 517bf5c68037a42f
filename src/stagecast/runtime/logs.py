"""The log of commands that serve: it never blocks them, and nobody outside can make much of it.

A record is one line, with its traceback indented behind it. A thread of its own writes it to
stderr; what nobody reads is dropped, and counted. Records of one kind are counted as well when they
come too fast.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, TextIO

from stagecast.escaping import encoding_of, escape_for
from stagecast.runtime.stdio import as_text

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDERR = 2
_MAX_QUEUED = 1_000  # records that wait to be written
_MAX_MESSAGE = 2_000  # characters
_MAX_TRACEBACK = 8_000
_LAST_WORDS_S = 1.0  # for what waits to be written when the process ends

_BURST = 10  # records of a kind at once
_EVERY_S = 5.0  # for each that follows
_MAX_KINDS = 1_000

_log = logging.getLogger(__name__)


def log_to_stderr(*, level: int = logging.INFO, name_process: bool = False) -> None:
    """Write the log of this process to stderr; its id on each line, if it is one of several.

    Whatever else is written to `sys.stderr` from now on goes the same way, unless somebody has put
    something else in its place.
    """
    writer = _Writer(os.dup(_STDERR))
    atexit.register(writer.close)
    process = " [%(process)d]" if name_process else ""
    encoding = encoding_of(sys.stderr)
    handler = _Handler(writer, encoding)
    line = f"%(asctime)s %(levelname)s{process} %(name)s: %(message)s"
    handler.setFormatter(_Formatter(line, encoding))
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(True)
    sys.unraisablehook = _log_unraisable
    if _is_descriptor(sys.stderr):
        sys.stderr = as_text(_Stderr(writer), sys.stderr)
    # It tells what the ready line tells, under the name of its errors.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _is_descriptor(stream: TextIO | None) -> bool:
    """Tell whether a stream is the stderr of the process, or nothing because that is closed."""
    try:
        return stream is None or stream.fileno() == _STDERR
    except OSError:  # it has none
        return False


class _Writer:
    """Writes to a descriptor on a thread of its own, which may wait for a reader for ever.

    A daemon, and no lock is held while it waits: the process can end all the same.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # Also what garbage collection logs in the middle of a `put` gets in.
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="stagecast-log", daemon=True)
        self._thread.start()

    def put(self, data: bytes) -> None:
        """Write some lines soon, or count them as lost if too much is waiting."""
        if self._queue.qsize() < _MAX_QUEUED:
            self._queue.put(data)
        else:
            self._lost += 1

    def close(self) -> None:
        """Wait a moment until everything is written."""
        self._queue.put(None)
        self._thread.join(_LAST_WORDS_S)

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            self._write(data)
            if self._lost and self._queue.qsize() < _MAX_QUEUED // 2:
                lost, self._lost = self._lost, 0
                self._write(f"... records lost, since stderr did not take them: {lost}\n".encode())

    def _write(self, data: bytes) -> None:
        try:
            while data:
                with contextlib.suppress(BlockingIOError):
                    data = data[os.write(self._descriptor, data) :]
                    continue
                select.select((), (self._descriptor,), ())
        except (OSError, ValueError):  # closed, or its disk is full; or no number for `select`
            self._lost += 1


class _Stderr(io.RawIOBase):
    """Stands for stderr, and never blocks."""

    def __init__(self, writer: _Writer) -> None:
        self._writer = writer

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return _STDERR

    def isatty(self) -> bool:
        return os.isatty(_STDERR)

    def write(self, data: ReadableBuffer, /) -> int:
        written = bytes(data)
        self._writer.put(written)
        return len(written)


class _Handler(logging.Handler):
    def __init__(self, writer: _Writer, encoding: str) -> None:
        super().__init__()
        self._writer = writer
        self._encoding = encoding
        self._limit = RateLimit()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            left_out = self._limit.admit(record)
            if left_out is not None:
                record.left_out = left_out
                line = f"{self.format(record)}\n"
                self._writer.put(line.encode(self._encoding, errors="backslashreplace"))
        except Exception:
            self.handleError(record)


class _Formatter(logging.Formatter):
    """Makes one line of a record, and indents what follows it: no text can pass for a record.

    What the encoding of stderr lacks is escaped.
    """

    def __init__(self, line: str, encoding: str = "utf-8") -> None:
        super().__init__(line)
        self._encoding = encoding

    def format(self, record: logging.LogRecord) -> str:
        record.asctime = self.formatTime(record)
        record.message = escape_for(_cut(record.getMessage(), _MAX_MESSAGE), self._encoding)
        if left_out := getattr(record, "left_out", 0):
            record.message += f" (… {left_out} more like this before it)"
        return "\n".join([self.formatMessage(record), *self._behind(record)])

    def _behind(self, record: logging.LogRecord) -> Iterator[str]:
        for text in (record.exc_info and self.formatException(record.exc_info), record.stack_info):
            for line in _cut(text or "", _MAX_TRACEBACK).splitlines():
                yield f"  {escape_for(line, self._encoding)}"


class RateLimit:
    """Lets through so many records of a kind at once, and then one now and then.

    Of one kind are the records of a logger and level that have a template in common, or else the
    line of code that they come from: what strangers send is in the arguments.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[tuple[str, int, object], _Kind] = {}

    def admit(self, record: logging.LogRecord) -> int | None:
        """Return how many like this were left out since the last one; `None` to leave it out."""
        now_s = self._clock()
        if len(self._kinds) >= _MAX_KINDS:
            self._kinds.clear()
        kind = self._kinds.setdefault(_kind_of(record), _Kind(admissible=_BURST, at_s=now_s))
        kind.admissible = min(_BURST, kind.admissible + (now_s - kind.at_s) / _EVERY_S)
        kind.at_s = now_s
        if kind.admissible < 1:
            kind.left_out += 1
            return None
        kind.admissible -= 1
        left_out, kind.left_out = kind.left_out, 0
        return left_out


@dataclass(kw_only=True, slots=True)
class _Kind:
    admissible: float
    at_s: float
    left_out: int = 0


def _kind_of(record: logging.LogRecord) -> tuple[str, int, object]:
    source = record.msg if record.args and isinstance(record.msg, str) else None
    return record.name, record.levelno, source or (record.pathname, record.lineno)


def _cut(text: str, limit: int) -> str:
    """Return a text without its middle if it is too long."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]} … {text[-limit // 2 :]}"


def _log_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Log an exception that nobody could catch, such as one in a callback of grpc's core."""
    error = unraisable.exc_value
    info = (type(error), error, unraisable.exc_traceback) if error else None
    _log.error(
        "%s: %r", unraisable.err_msg or "Exception ignored in", unraisable.object, exc_info=info
    )
