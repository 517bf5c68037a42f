"""The model: records, the rules of their transitions, and what follows from them.

Nothing here reads a clock or does I/O.
"""

from __future__ import annotations

from stagecast.model.aggregates import (
    batch_at,
    batch_progress,
    batch_state,
    dataset_state,
    move_counts,
    move_dataset,
    move_segments,
)
from stagecast.model.edit import BatchEdit
from stagecast.model.ids import BATCH_ID, canonical_uuid, make_batch_id, make_document_id
from stagecast.model.records import (
    Batch,
    BatchState,
    Creation,
    Dataset,
    DatasetState,
    Document,
    DocumentCounts,
    DocumentError,
    DocumentState,
    Progress,
    ReportOutcome,
    SegmentTotals,
    SnapshotReason,
    Stage,
    Transition,
    TransitionKind,
    evolve,
)
from stagecast.model.requests import (
    DocumentQuery,
    NewBatch,
    NewDocument,
    Report,
    WatchRequest,
)
from stagecast.model.rules import (
    LOST,
    Change,
    apply_report,
    lose,
    pause,
    recover,
    register,
    resume,
    retry,
    stall,
    start_attempt,
    stop,
)
from stagecast.model.size import size_bound, take_page
from stagecast.model.tokens import PageToken, ResumeToken

__all__ = [
    "BATCH_ID",
    "LOST",
    "Batch",
    "BatchEdit",
    "BatchState",
    "Change",
    "Creation",
    "Dataset",
    "DatasetState",
    "Document",
    "DocumentCounts",
    "DocumentError",
    "DocumentQuery",
    "DocumentState",
    "NewBatch",
    "NewDocument",
    "PageToken",
    "Progress",
    "Report",
    "ReportOutcome",
    "ResumeToken",
    "SegmentTotals",
    "SnapshotReason",
    "Stage",
    "Transition",
    "TransitionKind",
    "WatchRequest",
    "apply_report",
    "batch_at",
    "batch_progress",
    "batch_state",
    "canonical_uuid",
    "dataset_state",
    "evolve",
    "lose",
    "make_batch_id",
    "make_document_id",
    "move_counts",
    "move_dataset",
    "move_segments",
    "pause",
    "recover",
    "register",
    "resume",
    "retry",
    "size_bound",
    "stall",
    "start_attempt",
    "stop",
    "take_page",
]
