"""Arguments of the faces: documents, names, durations, each checked where it is passed."""

from __future__ import annotations

import operator
import os
import random
import re
import socket
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from stagecast.client.datasets import dataset_id
from stagecast.client.records import NewDocument
from stagecast.escaping import is_printable

OnError: TypeAlias = Literal["raise", "continue"]
Documents: TypeAlias = Iterable["str | os.PathLike[str] | NewDocument"]
Duration: TypeAlias = timedelta | float | str
"""A timedelta, a number of seconds, or a text such as `30s`, `10m`, `2h` or `1d`."""

_BATCH_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}")
_DURATION = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_MAX_ID = 256  # characters
_MAX_S = 10**9  # some 30 years
_MAX_COUNT = 2**53


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """What a batch is created with."""

    dataset_id: str
    batch_id: str
    dataset_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    start_after_s: float | None = None
    stall_after_s: float | None = None
    fail_after_s: float | None = None
    seal_after_s: float | None = None


def name_of_dataset(dataset: str | uuid.UUID) -> tuple[str, str]:
    """Return the id of a dataset, and its name if it was not named by its id.

    Raises:
        TypeError, ValueError: see `dataset_id`.
    """
    known = dataset_id(dataset)
    try:
        uuid.UUID(str(dataset))
    except ValueError:
        return known, str(dataset)
    return known, ""


def batch_id_of(batch_id: str | None) -> str:
    """Return a batch id, a new one like `20261122093015482913` for `None`.

    Raises:
        TypeError: it is no text.
        ValueError: it has other characters than ids may have.
    """
    if batch_id is None:
        digits = random.SystemRandom().randrange(10**6)
        return f"{datetime.now(UTC):%Y%m%d%H%M%S}{digits:06}"
    if not isinstance(batch_id, str):
        raise TypeError(f"invalid batch_id {batch_id!r}; use a text such as 'nightly-7', or None")
    if not _BATCH_ID.fullmatch(batch_id):
        raise ValueError(
            f"invalid batch_id {batch_id!r}; use 1 to 128 characters of A-Z a-z 0-9 . _ ~ -"
        )
    return batch_id


def on_error_of(on_error: str) -> OnError:
    """Return what to do after an exception.

    Raises:
        ValueError: it is neither of both.
    """
    match on_error:
        case "raise" | "continue":
            return on_error
    raise ValueError(f"invalid on_error {on_error!r}; use 'raise' or 'continue'")


def seconds_of(name: str, duration: Duration | None) -> float | None:
    """Return a duration in seconds.

    Raises:
        TypeError: it is no duration.
        ValueError: it is negative, or a text without a unit.
    """
    if duration is None:
        return None
    accepted = "use a text such as 30s, 10m or 2h, a timedelta, or a number of seconds"
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, str):
        match = _DURATION.fullmatch(duration)
        seconds = int(match[1]) * _SECONDS[match[2]] if match else -1.0
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        seconds = float(duration)
    else:
        raise TypeError(f"invalid {name} {duration!r}; {accepted}")
    if not 0 <= seconds <= _MAX_S:
        raise ValueError(f"invalid {name} {duration!r}; {accepted}")
    return seconds


def check_documents(documents: Documents) -> Documents:
    """Check that documents are many.

    Raises:
        TypeError: they are a single id or path, or cannot be iterated over.
    """
    if isinstance(documents, str | bytes | os.PathLike | NewDocument):
        raise TypeError(
            f"documents is a single {type(documents).__name__}, {documents!r}; "
            f"use a list: [{documents!r}]"
        )
    if not isinstance(documents, Iterable):
        raise TypeError(
            f"documents is {documents!r}, which cannot be iterated over; use ids or paths, such as "
            "['a.md', 'b.md'] or Path('in').glob('*.md')"
        )
    return documents


def new_document(document: str | os.PathLike[str] | NewDocument) -> NewDocument:
    """Return the document to register.

    Raises:
        TypeError: it is no id, path or `NewDocument`.
    """
    new = document if isinstance(document, NewDocument) else None
    path = os.fspath(document) if isinstance(document, os.PathLike) else document
    known = new.document_id if new else path
    if not isinstance(known, str):
        raise TypeError(f"invalid document {document!r}; use an id, a path or a NewDocument")
    return new or NewDocument(document_id=known)


def problem_of(new: NewDocument) -> str | None:
    """Return what is wrong with a document, `None` if it can be registered."""
    document_id = new.document_id
    if not 1 <= len(document_id) <= _MAX_ID:
        return f"an id has 1 to {_MAX_ID} characters, this one {len(document_id)}"
    if not is_printable(document_id):
        return "it has characters that are not printable"
    if not (new.display_name or new.labels):
        return None
    return _problem_of_texts(new.display_name, *new.labels, *new.labels.values())


def labels_of(labels: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return labels, none for `None`.

    Raises:
        TypeError: they are not texts by text.
        ValueError: they are not printable.
    """
    if labels is not None and not isinstance(labels, Mapping):
        raise TypeError(f"invalid labels {labels!r}; use texts by text, such as {{'team': 'a'}}")
    known = dict(labels or {})
    if problem := _problem_of_texts(*known, *known.values()):
        kind = ValueError if "printable" in problem else TypeError
        raise kind(f"invalid labels {known!r}: {problem}")
    return known


def check_worker(worker: str | None) -> str | None:
    """Return the name of a worker.

    Raises:
        TypeError: it is no text.
        ValueError: it is empty, too long or not printable.
    """
    if worker is None:
        return None
    accepted = f"use 1 to {_MAX_ID} printable characters"
    if not isinstance(worker, str):
        raise TypeError(f"invalid worker {worker!r}; {accepted}")
    if not (1 <= len(worker) <= _MAX_ID and is_printable(worker)):
        raise ValueError(f"invalid worker {worker!r}; {accepted}")
    return worker


def count_of(number: object) -> int | None:
    """Return a counter, `None` if it is no whole number that can be sent."""
    try:
        whole = operator.index(number)  # type: ignore[arg-type]  # whatever it is
    except TypeError:
        return None
    return whole if 0 <= whole <= _MAX_COUNT else None


def length_of(items: object) -> int | None:
    """Return the length of items, `None` if they have none."""
    try:
        return len(items)  # type: ignore[arg-type]  # whatever it is
    except Exception:  # such as of a loader that cannot know it
        return None


def _problem_of_texts(*texts: object) -> str | None:
    for text in texts:
        if not isinstance(text, str):
            return f"{text!r} is no text"
        if not is_printable(text):
            return f"{text!r} has characters that are not printable"
    return None


def make_worker() -> str:
    """Return a name that no other process has, nor this one after a fork."""
    host = socket.gethostname()
    host = host if host and is_printable(host) else "host"
    return f"{host[:200]}-{os.getpid()}-{random.SystemRandom().randrange(16**6):06x}"
