"""Messages of watches, before they are encoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stagecast.model.encoded import EncodedDocument
from stagecast.model.records import Batch, Dataset, Document, SnapshotReason


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotPart:
    """Some documents of a snapshot; `complete` on the last part."""

    reason: SnapshotReason
    documents: Iterable[EncodedDocument]
    complete: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchMessage:
    """A message of a watch of a batch, or a piece of one: encoded pieces are joined byte by byte.

    Transitions and parts of a snapshot are pieces of their own. A partial message, of a snapshot or
    of the changes of one call, has no `batch` and no `resume_token`. `progress` holds documents
    with their newest counters.
    """

    progress: Sequence[Document] = ()
    batch: Batch | None = None
    revision: int = 0
    resume_token: str = ""
    server_at: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetsMessage:
    """A message of a watch of datasets; `complete` marks the end of the initial list."""

    datasets: Sequence[Dataset] = ()
    removed: Sequence[str] = ()
    complete: bool = False
    server_at: int
