"""`Spool`: a file that keeps what waits, for a process that is killed.

Lines of JSON are only appended: one for what is put into the outbox, one for what need not be sent
again. What the last process left is put into the outbox of the next, which writes it anew behind
the old lines before these count as done: so a kill at any time loses nothing, and at worst sends
something twice, which changes nothing. A torn line is skipped. Once nothing waits, the file is
emptied.

Processes do not share a file: one that finds it locked takes `PATH.1`, `PATH.2` and so on, and one
that starts also takes over those that no process has any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stagecast.client.records import NewDocument
from stagecast.client.reporting.options import BatchOptions
from stagecast.client.reporting.outbox import Outbox
from stagecast.client.reporting.queues import (
    BatchQueue,
    DocumentQueue,
    Entry,
    Mode,
    Step,
    Takeover,
)

_MAX_FILES = 100
_BEGINNING = b'{"n":'

_log = logging.getLogger("stagecast")


class Spool:
    """Lines of what was put into an outbox, and of what need not be sent again."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None
        self._broken = False
        self._number = 0
        self._waiting: set[int] = set()
        self._batches: dict[BatchQueue, int] = {}

    def restore(self, outbox: Outbox) -> None:
        """Put what an earlier process has left into an outbox."""
        self._open()
        if self._file is None:
            return
        left_behind = [self._file, *self._others()]
        contents = [_read(file) for file in left_behind]
        first = self._number = max(map(_last_number, contents), default=0) + 1
        for lines in contents:
            try:
                for restored in _restored(lines):
                    restored.put_into(outbox)
            except (KeyError, TypeError, ValueError):
                _log.warning("reports in %s cannot be read; of another release?", self._path)
        self._append({"before": first})
        for file in left_behind[1:]:
            os.ftruncate(file, 0)
            os.close(file)
        self._empty_if_done()

    def write(self, batch: BatchQueue, kind: str, **fields: Any) -> int:  # noqa: ANN401 - JSON
        """Write a line, and return its number."""
        self._open()
        if self._file is None:
            return 0
        if batch not in self._batches:
            self._batches[batch] = self._append({"k": "batch", **_fields_of_batch(batch)})
        number = self._append({"k": kind, "b": self._batches[batch], **_plain(fields)})
        self._waiting.add(number)
        return number

    def done(self, number: int, **fields: Any) -> None:  # noqa: ANN401 - JSON
        """Note that a line need not be sent again."""
        if number in self._waiting:
            self._waiting.discard(number)
            self._append({"done": number, **fields})
            self._empty_if_done()

    def leave(self) -> None:
        """Close the file in a forked child; the parent has it still."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, line: dict[str, Any]) -> int:
        self._number += 1
        text = json.dumps({"n": self._number, **line}, separators=(",", ":")) + "\n"
        try:
            os.write(self._file or -1, text.encode())
        except OSError as error:
            self._give_up(error)
        return self._number

    def _empty_if_done(self) -> None:
        if not self._waiting and self._file is not None:
            self._batches.clear()
            os.ftruncate(self._file, 0)

    def _open(self) -> None:
        """Open and lock the first file that no process has."""
        if self._file is not None or self._broken:
            return
        try:
            for path in _paths(self._path):
                self._file = _locked(path)
                if self._file is not None:
                    if not _is_spool(self._file):
                        raise OSError(f"{path} is a file of something else; use another path")
                    os.write(self._file, b"\n")  # after a torn line
                    return
            raise OSError(f"{_MAX_FILES} processes have it")
        except OSError as error:
            self._give_up(error)

    def _others(self) -> Iterator[int]:
        """Yield the files that no process has any more, opened and locked."""
        for path in _paths(self._path):
            with contextlib.suppress(OSError):
                if Path(path).exists() and (file := _locked(path)) is not None:
                    if _is_spool(file):
                        yield file
                    else:
                        os.close(file)

    def _give_up(self, error: OSError) -> None:
        if self._file is not None:
            os.close(self._file)
        self._broken, self._file = True, None
        _log.warning("reports cannot be kept in %s: %s", self._path, error)


class _Restored:
    """A batch of an earlier process, and what waits of it."""

    def __init__(self, line: dict[str, Any]) -> None:
        options = BatchOptions(**line["options"])
        self.batch = BatchQueue(options, Mode(line["mode"]))
        self.batch.created, self.batch.submitted = line["created"], line["submitted"]
        self.batch.left = True
        self.opened = True
        self.sealed = True
        self.news: list[NewDocument] = []
        self.documents: list[tuple[DocumentQueue, Takeover | None, list[Entry]]] = []

    def add(self, line: dict[str, Any], done: dict[int, dict[str, Any]]) -> None:
        """Take a line, and whether it need not be sent again."""
        finished = done.get(line["n"])
        kind = line["k"]
        if kind == "open":
            self.opened = finished is not None
            if finished is not None:
                self.batch.mode = Mode.ATTACH
                self.batch.created = finished.get("created", False)
        elif kind == "document" and finished is None:
            self.news.append(NewDocument(**line["new"]))
        elif kind == "start":
            document = DocumentQueue(self.batch, line["document_id"], line["worker"])
            document.registered = True
            document.attempt = 0 if finished is None else finished.get("attempt", 0)
            takeover = Takeover(line["takeover"]) if finished is None else None
            self.documents.append((document, takeover, []))
        elif kind == "report" and finished is None:
            self._entries_of(line).append(_entry(line["entry"]))
        elif kind == "seal":
            self.sealed = finished is not None

    def put_into(self, outbox: Outbox) -> None:
        """Put what waits into an outbox."""
        waiting = [each for each in self.documents if each[1] or each[2]]
        if self.opened and self.sealed and not self.news and not waiting:
            return
        outbox.open(self.batch)
        outbox.register(self.batch, self.news)
        for document, takeover, entries in waiting:
            if takeover is not None:
                outbox.start(document, takeover)
                if document.start is not None:
                    document.start.go_offline()
            for entry in entries:
                outbox.put(document, entry)
        if not self.sealed:
            outbox.seal(self.batch)

    def _entries_of(self, line: dict[str, Any]) -> list[Entry]:
        """Return the reports of the last attempt at a document."""
        for document, _, entries in reversed(self.documents):
            if document.document_id == line["document_id"]:
                return entries
        document = DocumentQueue(self.batch, line["document_id"], line["worker"])
        document.registered = True
        document.attempt = line["attempt"]
        self.documents.append((document, None, []))
        return self.documents[-1][2]


def _restored(lines: list[dict[str, Any]]) -> Iterable[_Restored]:
    done = {line["done"]: line for line in lines if "done" in line}
    before = max((line["before"] for line in lines if "before" in line), default=0)
    batches: dict[int, _Restored] = {}
    for line in lines:
        if line["n"] < before:
            continue
        if line.get("k") == "batch":
            batches[line["n"]] = _Restored(line)
        elif "k" in line and line["b"] in batches:
            batches[line["b"]].add(line, done)
    return batches.values()


def _fields_of_batch(batch: BatchQueue) -> dict[str, Any]:
    options = batch.options
    return {
        "options": {name: getattr(options, name) for name in options.__slots__}
        | {"labels": dict(options.labels)},
        "mode": Mode.ATTACH.value if batch.opened else batch.mode.value,
        "created": batch.created,
        "submitted": batch.submitted,
    }


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in fields.items()}


def _plain_value(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, NewDocument):
        return {
            "document_id": value.document_id,
            "display_name": value.display_name,
            "labels": dict(value.labels),
        }
    if isinstance(value, Entry):
        return {name: getattr(value, name) for name in value.__slots__ if name != "number"}
    return value


def _entry(fields: dict[str, Any]) -> Entry:
    step, error = fields.pop("step"), fields.pop("error")
    return Entry(
        **fields,
        step=None if step is None else Step(*step),
        error=None if error is None else (error[0], error[1]),
    )


def _paths(path: str) -> Iterator[str]:
    yield path
    for number in range(1, _MAX_FILES):
        yield f"{path}.{number}"


def _locked(path: str) -> int | None:
    """Return a file that is opened and locked, `None` if another process has it."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return file


def _is_spool(file: int) -> bool:
    """Return whether a file is empty or begins as a spool does: others are left alone."""
    beginning = os.pread(file, 64, 0).lstrip()
    return not beginning or _BEGINNING.startswith(beginning) or beginning.startswith(_BEGINNING)


def _read(file: int) -> list[dict[str, Any]]:
    """Return the lines of a file that are whole."""
    with open(os.dup(file), "rb") as lines:  # noqa: PTH123 - an open file
        lines.seek(0)
        return [line for text in lines if (line := _line(text)) is not None]


def _line(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "n" in line else None


def _last_number(lines: list[dict[str, Any]]) -> int:
    return max((line["n"] for line in lines), default=0)
