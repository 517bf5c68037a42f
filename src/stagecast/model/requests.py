"""Requests to the service, with validated fields.

Omitted ids are empty strings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stagecast.errors import FieldInvalid
from stagecast.model.records import BatchState, DocumentError, DocumentState, Progress, Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class NewDocument:
    """A document to register."""

    document_id: str
    display_name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewBatch:
    """A batch to create."""

    dataset_id: str
    dataset_name: str
    batch_id: str
    documents: Sequence[NewDocument]
    labels: Mapping[str, str]
    more_documents_follow: bool
    start_after_us: int
    stall_after_us: int
    fail_after_us: int
    seal_after_us: int
    request_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A report on one document; `attempt` 0 is the current one."""

    document_id: str
    attempt: int = 0
    stage: Stage | None = None
    progress: Progress | None = None
    error: DocumentError | None = None
    event_at: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InvalidReport:
    """A report with an invalid field; `document_id` is empty if that is the invalid one."""

    document_id: str
    error: FieldInvalid


@dataclass(frozen=True, kw_only=True, slots=True)
class HeartbeatItem:
    """A document that a worker is still processing; `attempt` 0 is the current one."""

    document_id: str
    attempt: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page of a list: at most `size` items, after those of the token if there is one."""

    size: int
    token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetQuery:
    """A page of datasets; `dataset_ids` is `None` for all."""

    dataset_ids: frozenset[str] | None
    page: Page


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchQuery:
    """A page of a dataset's batches, or of all; an empty filter matches all."""

    dataset_id: str
    states: frozenset[BatchState]
    page: Page


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentQuery:
    """A page of a batch's documents; empty filters match all."""

    dataset_id: str
    batch_id: str
    states: frozenset[DocumentState]
    stages: frozenset[Stage]
    page: Page


@dataclass(frozen=True, kw_only=True, slots=True)
class TransitionQuery:
    """A page of the history of a batch, or of one document."""

    dataset_id: str
    batch_id: str
    document_id: str
    page: Page


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchRequest:
    """A watch to start, or to resume from a token."""

    dataset_id: str
    batch_id: str
    resume_token: str
    follow: bool
    heartbeat_s: float
    transitions_only: bool
    fail_on_expired_token: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetsWatchRequest:
    """A watch of datasets to start; `dataset_ids` is `None` for all."""

    dataset_ids: frozenset[str] | None
    heartbeat_s: float
