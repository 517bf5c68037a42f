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
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from stagecast.client.arguments import Span, flag_of, labels_of, refusal, seconds_of, text_of
from stagecast.client.datasets import dataset_id
from stagecast.client.records import NewDocument
from stagecast.escaping import is_printable

OnError: TypeAlias = Literal["raise", "continue"]
Documents: TypeAlias = Iterable["str | os.PathLike[str] | NewDocument"]

_BATCH_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}")
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Behaviour:
    """How the documents of a batch behave.

    Attributes:
        on_error: what the block of a document does with an exception.
        strict: whether what cannot be delivered raises an error.
        obey: whether documents pause and stop as ordered.
        stall_on_no_progress_s: after how long without a report heartbeats end.
    """

    on_error: OnError = "raise"
    strict: bool = False
    obey: bool = True
    stall_on_no_progress_s: float | None = None


def options_of(
    dataset: str | uuid.UUID,
    batch_id: str | None,
    labels: Mapping[str, str] | None,
    start_after: Span | None,
    stall_after: Span | None,
    fail_after: Span | None,
    seal_after: Span | None,
) -> BatchOptions:
    """Return the options of a batch.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """
    known, name = _name_of_dataset(dataset)
    return BatchOptions(
        dataset_id=known,
        batch_id=_batch_id_of(batch_id),
        dataset_name=name,
        labels=_printable_labels(labels),
        start_after_s=_seconds_or_none("start_after", start_after),
        stall_after_s=_seconds_or_none("stall_after", stall_after),
        fail_after_s=_seconds_or_none("fail_after", fail_after),
        seal_after_s=_seconds_or_none("seal_after", seal_after),
    )


def behaviour_of(
    on_error: str, stall_on_no_progress: Span | None, *, strict: bool, obey: bool
) -> Behaviour:
    """Return how documents behave.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """
    return Behaviour(
        on_error=_on_error_of(on_error),
        strict=flag_of("strict", strict),
        obey=flag_of("obey", obey),
        stall_on_no_progress_s=_seconds_or_none("stall_on_no_progress", stall_on_no_progress),
    )


def new_document(document: str | os.PathLike[str] | NewDocument) -> NewDocument:
    """Return the document to register.

    Raises:
        TypeError: it is not an id, a path or a `NewDocument`.
    """
    new = document if isinstance(document, NewDocument) else None
    path = os.fspath(document) if isinstance(document, os.PathLike) else document
    known = new.document_id if new else path
    if not isinstance(known, str):
        raise TypeError(refusal("document", document, "an id, a path or a NewDocument"))
    return new or NewDocument(document_id=known)


def problem_of(new: NewDocument) -> str | None:
    """Return what is wrong with a document, `None` if it can be registered."""
    document_id = new.document_id
    if not 1 <= len(document_id) <= _MAX_ID:
        return f"an id has 1 to {_MAX_ID} characters, this one {len(document_id)}"
    if not is_printable(document_id):
        return "it has characters that are not printable"
    for text in (new.display_name, *new.labels, *new.labels.values()):
        if not isinstance(text, str):
            return f"{text!r} is not a text"
        if not is_printable(text):
            return f"{text!r} has characters that are not printable"
    return None


def worker_of(worker: str | None) -> str | None:
    """Return the name of a worker.

    Raises:
        TypeError: it is not a text.
        ValueError: it is empty, too long or not printable.
    """
    if worker is None:
        return None
    accepted = f"1 to {_MAX_ID} printable characters"
    if not (1 <= len(text_of("worker", worker, accepted)) <= _MAX_ID and is_printable(worker)):
        raise ValueError(refusal("worker", worker, accepted))
    return worker


def count_of(number: object) -> int | None:
    """Return a counter, `None` if it is not a whole number that can be sent."""
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


def make_worker() -> str:
    """Return a name that no other process has, nor this one after a fork."""
    host = socket.gethostname()
    host = host if host and is_printable(host) else "host"
    return f"{host[:200]}-{os.getpid()}-{random.SystemRandom().randrange(16**6):06x}"


def _name_of_dataset(dataset: str | uuid.UUID) -> tuple[str, str]:
    """Return the id of a dataset, and its name unless it was given by its id.

    Raises:
        TypeError, ValueError: see `dataset_id`.
    """
    known = dataset_id(dataset)
    try:
        uuid.UUID(str(dataset))
    except ValueError:
        return known, str(dataset)
    return known, ""


def _batch_id_of(batch_id: str | None) -> str:
    """Return a batch id, a new one like `20261122093015482913` for `None`.

    Raises:
        TypeError: it is not a text.
        ValueError: it has other characters than ids may have.
    """
    if batch_id is None:
        digits = random.SystemRandom().randrange(10**6)
        return f"{datetime.now(UTC):%Y%m%d%H%M%S}{digits:06}"
    accepted = "1 to 128 characters of A-Z a-z 0-9 . _ ~ -"
    if not _BATCH_ID.fullmatch(text_of("batch_id", batch_id, accepted)):
        raise ValueError(refusal("batch_id", batch_id, accepted))
    return batch_id


def _on_error_of(on_error: str) -> OnError:
    match on_error:
        case "raise" | "continue":
            return on_error
    raise ValueError(refusal("on_error", on_error, "'raise' or 'continue'"))


def _seconds_or_none(name: str, span: Span | None) -> float | None:
    """Return a duration in seconds.

    Raises:
        TypeError, ValueError: see `seconds_of`; or it is negative, or more than 30 years.
    """
    if span is None:
        return None
    seconds = seconds_of(name, span)
    if not 0 <= seconds <= _MAX_S:
        raise ValueError(refusal(name, span, f"a time from 0 to {_MAX_S} seconds"))
    return seconds


def _printable_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return labels, none for `None`.

    Raises:
        TypeError, ValueError: see `labels_of`; or one is not printable.
    """
    known = {} if labels is None else labels_of("labels", labels)
    if not all(map(is_printable, (*known, *known.values()))):
        raise ValueError(refusal("labels", known, "printable characters only"))
    return known
