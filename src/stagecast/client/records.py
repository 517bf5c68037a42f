"""What a client takes and returns: frozen records with the names of the protos.

Times are aware datetimes in UTC, spans timedeltas; `None` stands for an absent field. The protos
explain every field. `str` of a record is a line for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from stagecast.client.enums import (
    BatchState,
    DatasetState,
    DocumentState,
    ReportOutcome,
    SnapshotReason,
    Stage,
    TransitionKind,
)
from stagecast.escaping import escape_controls

Labels: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What a worker does within a stage, such as `pages`; an unknown total is `None`."""

    name: str
    completed: int = 0
    total: int | None = None

    def __str__(self) -> str:
        number = self.completed if self.total is None else f"{self.completed}/{self.total}"
        return f"{self.name} {number}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Segment (chunk) counters of a document or a batch, and the step within a document's stage.

    An unknown total is `None`.
    """

    completed_segments: int = 0
    total_segments: int | None = None
    step: Step | None = None

    def __str__(self) -> str:
        parts = [str(self.step)] if self.step else []
        if self.total_segments is not None:
            parts.insert(0, f"{self.completed_segments}/{self.total_segments} segments")
        elif self.completed_segments or not parts:
            parts.insert(0, f"{self.completed_segments} segments")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentError:
    """Why a document failed: `reason` in UPPER_SNAKE for programs, `message` for people."""

    reason: str
    message: str = ""

    def __str__(self) -> str:
        message = escape_controls(" ".join(self.message.split()))
        return f"{self.reason}: {message}" if message else self.reason


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentCounts:
    """Numbers of documents; the six states add up to `total`, `stalled` are among them."""

    total: int
    pending: int
    running: int
    paused: int
    succeeded: int
    failed: int
    stopped: int
    stalled: int

    def __str__(self) -> str:
        names = ("pending", "running", "stalled", "paused", "succeeded", "failed", "stopped")
        numbers = ((getattr(self, name), name) for name in names)
        line = ", ".join(f"{number} {name}" for number, name in numbers if number)
        return line or "no documents"


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One item of one batch, as of its transition `revision`."""

    dataset_id: str
    batch_id: str
    document_id: str
    display_name: str
    labels: Labels = field(hash=False)
    state: DocumentState
    stage: Stage
    attempt: int
    worker: str
    stalled: bool
    progress: Progress
    error: DocumentError | None
    revision: int
    create_time: datetime
    update_time: datetime
    processing_start_time: datetime | None
    parsing_complete_time: datetime | None
    cleaning_complete_time: datetime | None
    splitting_complete_time: datetime | None
    complete_time: datetime | None
    pause_time: datetime | None
    stop_time: datetime | None

    def __str__(self) -> str:
        parts = [f"{self.document_id}: {self.state} in {self.stage}"]
        parts += ["stalled"] if self.stalled else []
        parts += [str(self.progress)] if self.progress != Progress() else []
        parts += [f"attempt {self.attempt}"] if self.attempt > 1 else []
        parts += [str(self.error)] if self.error else []
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Documents that were submitted together, as of its last transition `revision`.

    Of the spans, zero means that there is no limit.
    """

    dataset_id: str
    batch_id: str
    labels: Labels = field(hash=False)
    state: BatchState
    sealed: bool
    counts: DocumentCounts
    progress: Progress
    revision: int
    stall_after: timedelta
    fail_after: timedelta
    create_time: datetime
    update_time: datetime
    end_time: datetime | None
    start_after: timedelta
    seal_after: timedelta

    def __str__(self) -> str:
        counts = str(self.counts) if self.sealed else f"{self.counts}; more may follow"
        return f"batch {self.batch_id}: {self.state}, {counts}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """A knowledge base that documents are put into; it exists from its first batch on."""

    dataset_id: str
    state: DatasetState
    batches: int
    open_batches: int
    counts: DocumentCounts
    update_time: datetime
    display_name: str

    def __str__(self) -> str:
        name = f"{self.dataset_id} ({self.display_name})" if self.display_name else self.dataset_id
        batches = f"{self.batches} {'batch' if self.batches == 1 else 'batches'}"
        return f"dataset {name}: {self.state}, {batches}, {self.open_batches} open; {self.counts}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetRemoved:
    """A dataset that was deleted while it was watched."""

    dataset_id: str

    def __str__(self) -> str:
        return f"dataset {self.dataset_id}: removed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """A recorded change: `document` is as it was right after it, `None` for one of the batch.

    `previous_state` and `previous_stage` are `None` for a new document, and for the batch.
    """

    revision: int
    kind: TransitionKind
    document: Document | None
    previous_state: DocumentState | None
    previous_stage: Stage | None
    event_time: datetime | None
    commit_time: datetime

    def __str__(self) -> str:
        line = f"{self.revision} {self.kind}"
        return f"{line} {self.document}" if self.document else line


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """All documents of a batch as of `revision`; it replaces what was known before."""

    reason: SnapshotReason
    documents: tuple[Document, ...]
    batch: Batch
    revision: int

    def __str__(self) -> str:
        return f"{self.revision} snapshot ({self.reason}) of {self.batch}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentProgress(Progress):
    """New counters, or a new step, of a document, which changed without a transition."""

    document_id: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.document_id}: {Progress.__str__(self)}"


Event: TypeAlias = Snapshot | Transition | DocumentProgress
"""What a watch of a batch yields."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewDocument:
    """A document to register: 1 to 256 printable characters of id, unique in the batch."""

    document_id: str
    display_name: str = ""
    labels: Labels = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentReport:
    """A report on one document; at least one of `stage`, `progress` and `error` is needed.

    Attributes:
        document_id: the document.
        attempt: the attempt of the worker; 0 for the current one, whichever that is.
        stage: the stage that it has entered; `COMPLETED` ends it as SUCCEEDED.
        progress: its counters, and its step; an unknown total, and an omitted step, leave the
            stored one as it is.
        error: ends it as FAILED.
        event_time: when it happened by the worker's clock; for display only. Without a time zone
            it is taken as local time.
    """

    document_id: str
    attempt: int = 0
    stage: Stage | None = None
    progress: Progress | None = None
    error: DocumentError | None = None
    event_time: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRefusal:
    """Why a report was refused: `reason` for programs, `message` for people."""

    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportResult:
    """The outcome of a report, and the revision of the document's last transition after it.

    `refusal` is set if it was REFUSED.
    """

    document_id: str
    outcome: ReportOutcome
    revision: int
    refusal: ReportRefusal | None = None

    def __str__(self) -> str:
        if self.refusal:
            return f"{self.document_id}: {self.outcome}, {self.refusal}"
        return f"{self.document_id}: {self.outcome}, revision {self.revision}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlResult:
    """The batch after a call, and how many documents changed."""

    batch: Batch
    changed_documents: int

    def __str__(self) -> str:
        noun = "document" if self.changed_documents == 1 else "documents"
        return f"{self.changed_documents} {noun} changed; {self.batch}"
