"""The records of the model: datasets, batches, documents, transitions.

They are frozen: a change returns a new one.
Times (`…_at`) are integer microseconds since the Unix epoch, by the server's clock; `None` means
that the event has not happened.
Enums have the numbers of the protos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

R = TypeVar("R")

SECOND_US = 1_000_000
"""Microseconds per second."""


class Stage(IntEnum):
    """Where in the pipeline a document is, in pipeline order."""

    WAITING = 1  # registered, or started by a worker that has not begun to read it
    PARSING = 2  # its text is extracted
    CLEANING = 3  # its text is normalised
    SPLITTING = 4  # its text is cut into segments
    INDEXING = 5  # its segments are put into the index
    COMPLETED = 6  # everything is in the index


class DocumentState(IntEnum):
    """Whether a document is done."""

    PENDING = 1  # no worker has begun
    RUNNING = 2  # a worker has begun
    PAUSED = 3  # held
    SUCCEEDED = 4  # ended, all stages completed
    FAILED = 5  # ended by an error
    STOPPED = 6  # ended on request

    @property
    def terminal(self) -> bool:
        """Whether only another attempt can leave this state."""
        return self >= DocumentState.SUCCEEDED


class BatchState(IntEnum):
    """Whether a batch is done."""

    PENDING = 1  # open, nothing has begun
    RUNNING = 2  # open
    PAUSED = 3  # open, all open documents are held
    SUCCEEDED = 4  # ended, all documents succeeded
    PARTIALLY_SUCCEEDED = 5  # ended, some did
    FAILED = 6  # ended, none succeeded, some failed
    STOPPED = 7  # ended, all documents were stopped

    @property
    def terminal(self) -> bool:
        """Whether all documents are done and none can be added."""
        return self >= BatchState.SUCCEEDED


class DatasetState(IntEnum):
    """Whether a dataset has open batches, else how its last batch ended."""

    PENDING = 1  # open batches, none begun
    RUNNING = 2  # open batches
    SUCCEEDED = 3  # the last batch succeeded
    FAILED = 4  # the last batch ended in any other state


class TransitionKind(IntEnum):
    """The kind of a transition."""

    CREATED = 1  # the batch, always revision 1
    REGISTERED = 2  # a document was added
    SEALED = 3  # the batch accepts no more documents
    STARTED = 4  # a worker started the document
    STAGE_ENTERED = 5  # the document reached a later stage
    PAUSED = 6  # held
    RESUMED = 7  # released
    STALLED = 8  # silent, or not started, for too long
    RECOVERED = 9  # a sign of life after a stall
    SUCCEEDED = 10  # completed
    FAILED = 11  # ended by an error
    STOPPED = 12  # ended on request
    RETRIED = 13  # reset for another attempt


class ReportOutcome(IntEnum):
    """The effect of a report."""

    APPLIED = 1  # something changed
    DUPLICATE = 2  # nothing new
    OVERTAKEN = 3  # a later report arrived first
    REFUSED = 4  # the other reports of the call are recorded


class WorkerOrder(IntEnum):
    """What a worker should do with a document."""

    GO_ON = 1
    DROP = 2  # another worker has it, or it has ended, or was deleted
    PAUSE = 3  # hold it until it is resumed
    STOP = 4  # it was stopped


class SnapshotReason(IntEnum):
    """Why a watch sends a snapshot."""

    INITIAL = 1  # the request had no token
    TOKEN_EXPIRED = 2  # the history after the token is no longer retained
    HISTORY_CHANGED = 3  # the token is of another history


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What a worker does within a stage, such as pages of a PDF; an unknown total is `None`."""

    name: str
    completed: int = 0
    total: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Segment counters, and the step within the stage; an unknown total is `None`."""

    completed_segments: int = 0
    total_segments: int | None = None
    step: Step | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentError:
    """Why a document failed: `reason` for programs, `message` for people."""

    reason: str
    message: str = ""


# Without slots, like `Batch`: each report creates new ones, and `evolve` copies the `__dict__`.
@dataclass(frozen=True, kw_only=True)
class Document:
    """One item of one batch. `position` counts from 0 in the order of registration."""

    dataset_id: str
    batch_id: str
    document_id: str
    position: int
    display_name: str
    labels: Mapping[str, str]
    created_at: int
    state: DocumentState
    stage: Stage
    attempt: int
    worker: str
    stalled: bool
    progress: Progress
    error: DocumentError | None
    revision: int
    updated_at: int
    processing_started_at: int | None = None
    parsing_completed_at: int | None = None
    cleaning_completed_at: int | None = None
    splitting_completed_at: int | None = None
    completed_at: int | None = None
    paused_at: int | None = None
    stopped_at: int | None = None


class DocumentCounts(NamedTuple):
    """The number of documents in each state; `stalled` counts pending and running ones again.

    A tuple, since every transition has new ones. The states are in the order of `DocumentState`.
    """

    pending: int = 0
    running: int = 0
    paused: int = 0
    succeeded: int = 0
    failed: int = 0
    stopped: int = 0
    stalled: int = 0

    @property
    def total(self) -> int:
        """All documents."""
        return self.open + self.succeeded + self.failed + self.stopped

    @property
    def open(self) -> int:
        """Those that are not terminal."""
        return self.pending + self.running + self.paused


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentTotals:
    """Sums of segment counters over documents, updated incrementally.

    `unknown` counts the documents whose total is unknown.
    """

    completed: int = 0
    total: int = 0
    unknown: int = 0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Documents that were submitted together.

    `key` is the store's internal row id, never reused and never shown.
    `progress_seq` counts changes of counters, so that a watcher can query those after its last one.
    `server_epoch` is the random number of the server process that changed counters last, 0 if none
    did; it shows whether the `progress_seq` of a token is of this history.
    """

    key: int
    dataset_id: str
    batch_id: str
    labels: Mapping[str, str]
    start_after_us: int
    stall_after_us: int
    fail_after_us: int
    seal_after_us: int
    created_at: int
    sealed: bool
    counts: DocumentCounts
    segments: SegmentTotals
    revision: int
    progress_seq: int
    server_epoch: int
    updated_at: int
    ended_at: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Creation:
    """The call that created a batch, to recognise repeats of it.

    `fingerprint` is a digest of its content, `documents` the number of documents it registered.
    """

    fingerprint: bytes
    documents: int
    request_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """The target of ingestion: batches of documents.

    `open_batches` include `pending_batches`; `last_ended` is the state of the batch that ended
    last.
    """

    dataset_id: str
    display_name: str
    batches: int
    open_batches: int
    pending_batches: int
    last_ended: BatchState | None
    counts: DocumentCounts
    updated_at: int


class Transition(NamedTuple):
    """A recorded change of a batch or document; a tuple, since every report makes one.

    `document`, `counts` and `sealed` are the values right after the change.
    `write_id` is a random number shared by all transitions of one call: it shows where a call ends
    and whether a token is of this history.
    """

    revision: int
    kind: TransitionKind
    document: Document | None
    previous_state: DocumentState | None
    previous_stage: Stage | None
    event_at: int | None
    committed_at: int
    counts: DocumentCounts
    sealed: bool
    write_id: int


def evolve(record: R, **changes: Any) -> R:  # noqa: ANN401 - the types of the fields
    """Return a copy of a `Document` or `Batch` with changes.

    Like `dataclasses.replace`, but without reading and setting each field one by one.
    """
    copy = object.__new__(type(record))
    object.__setattr__(copy, "__dict__", vars(record) | changes)  # they are frozen
    return copy
