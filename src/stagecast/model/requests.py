"""What is asked of the service, after the fields were checked.

Ids that were left out are empty strings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stagecast.model.records import DocumentError, DocumentState, Progress, Stage


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
    batch_id: str
    documents: Sequence[NewDocument]
    labels: Mapping[str, str]
    more_documents_follow: bool
    stall_after_us: int
    fail_after_us: int
    request_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a worker says of one document; `attempt` 0 is the current one."""

    document_id: str
    attempt: int = 0
    stage: Stage | None = None
    progress: Progress | None = None
    error: DocumentError | None = None
    event_at: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentQuery:
    """A page of a batch's documents; empty filters let all through."""

    dataset_id: str
    batch_id: str
    states: frozenset[DocumentState]
    stages: frozenset[Stage]
    page_size: int
    page_token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchRequest:
    """A watch to begin, or to go on with from a token."""

    dataset_id: str
    batch_id: str
    resume_token: str
    follow: bool
    heartbeat_s: float
    transitions_only: bool
    fail_on_expired_token: bool
