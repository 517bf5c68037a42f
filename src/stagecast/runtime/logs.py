"""The log of servers: it never blocks them, and clients cannot flood it.

A record is one line, followed by its indented traceback. A separate thread writes it to stderr;
records that are not read are dropped and counted. Similar records are rate limited and counted.
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
_MAX_QUEUED = 1_000  # records
_MAX_MESSAGE = 2_000  # characters
_MAX_TRACEBACK = 8_000
_FLUSH_TIMEOUT_S = 1.0  # when the process ends

_BURST = 10  # records of a kind
_INTERVAL_S = 5.0  # between those that follow
_MAX_KINDS = 1_000

_log = logging.getLogger(__name__)


def log_to_stderr(*, level: int = logging.INFO, name_process: bool = False) -> None:
    """Write the log of this process to stderr, with its id on each line if it is one of several.

    Everything else written to `sys.stderr` goes the same way, unless that has been replaced.
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
    # Its INFO records repeat the ready line, under the name of its error log.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _is_descriptor(stream: TextIO | None) -> bool:
    """Return whether a stream is the stderr of the process, or `None` because that is closed."""
    try:
        return stream is None or stream.fileno() == _STDERR
    except OSError:  # it has no descriptor
        return False


class _Writer:
    """Writes to a descriptor on a separate thread, which may block for ever.

    The thread is a daemon and holds no lock while it blocks, so that the process can end.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # Its `put` is reentrant: garbage collection may log in the middle of one.
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="stagecast-log", daemon=True)
        self._thread.start()

    def put(self, data: bytes) -> None:
        """Queue lines, or count them as lost if the queue is full."""
        if self._queue.qsize() < _MAX_QUEUED:
            self._queue.put(data)
        else:
            self._lost += 1

    def close(self) -> None:
        """Wait for the queue to be written, for a limited time."""
        self._queue.put(None)
        self._thread.join(_FLUSH_TIMEOUT_S)

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            self._write(data)
            if self._lost and self._queue.qsize() < _MAX_QUEUED // 2:
                lost, self._lost = self._lost, 0
                self._write(f"... records lost, as stderr could not be written: {lost}\n".encode())

    def _write(self, data: bytes) -> None:
        try:
            while data:
                with contextlib.suppress(BlockingIOError):
                    data = data[os.write(self._descriptor, data) :]
                    continue
                select.select((), (self._descriptor,), ())
        except (OSError, ValueError):  # closed, a full disk, or a number too large for `select`
            self._lost += 1


class _Stderr(io.RawIOBase):
    """Replaces stderr, and never blocks."""

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
            suppressed = self._limit.admit(record)
            if suppressed is not None:
                record.suppressed = suppressed
                line = f"{self.format(record)}\n"
                self._writer.put(line.encode(self._encoding, errors="backslashreplace"))
        except Exception:
            self.handleError(record)


class _Formatter(logging.Formatter):
    """Formats a record as one line and an indented traceback, so that no text can forge one.

    Characters that the encoding of stderr lacks are escaped.
    """

    def __init__(self, line: str, encoding: str = "utf-8") -> None:
        super().__init__(line)
        self._encoding = encoding

    def format(self, record: logging.LogRecord) -> str:
        record.asctime = self.formatTime(record)
        record.message = escape_for(_cut(record.getMessage(), _MAX_MESSAGE), self._encoding)
        if suppressed := getattr(record, "suppressed", 0):
            record.message += f" ({suppressed} similar records suppressed)"
        return "\n".join([self.formatMessage(record), *self._traceback(record)])

    def _traceback(self, record: logging.LogRecord) -> Iterator[str]:
        for text in (record.exc_info and self.formatException(record.exc_info), record.stack_info):
            for line in _cut(text or "", _MAX_TRACEBACK).splitlines():
                yield f"  {escape_for(line, self._encoding)}"


class RateLimit:
    """Admits a burst of similar records, and then one per interval.

    Records are similar if they have the same logger, level and template, or, without arguments, the
    same line of code. Input from clients is in the arguments.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[tuple[str, int, object], _Kind] = {}

    def admit(self, record: logging.LogRecord) -> int | None:
        """Return how many similar records were suppressed before it; `None` to suppress it."""
        now_s = self._clock()
        if len(self._kinds) >= _MAX_KINDS:
            self._kinds.clear()
        kind = self._kinds.setdefault(_kind_of(record), _Kind(admissible=_BURST, at_s=now_s))
        kind.admissible = min(_BURST, kind.admissible + (now_s - kind.at_s) / _INTERVAL_S)
        kind.at_s = now_s
        if kind.admissible < 1:
            kind.suppressed += 1
            return None
        kind.admissible -= 1
        suppressed, kind.suppressed = kind.suppressed, 0
        return suppressed


@dataclass(kw_only=True, slots=True)
class _Kind:
    admissible: float
    at_s: float
    suppressed: int = 0


def _kind_of(record: logging.LogRecord) -> tuple[str, int, object]:
    source = record.msg if record.args and isinstance(record.msg, str) else None
    return record.name, record.levelno, source or (record.pathname, record.lineno)


def _cut(text: str, limit: int) -> str:
    """Return a text, shortened in its middle to the limit."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]} … {text[-limit // 2 :]}"


def _log_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Log an exception that cannot be caught, such as one in a callback of grpc's core."""
    error = unraisable.exc_value
    info = (type(error), error, unraisable.exc_traceback) if error else None
    _log.error(
        "%s: %r", unraisable.err_msg or "Exception ignored in", unraisable.object, exc_info=info
    )
