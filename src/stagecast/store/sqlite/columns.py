"""The columns of the SQLite store's tables, in the order in which rows have them.

`rows` reads and writes each list as a whole.
"""

from __future__ import annotations

COUNTS = ("pending", "running", "paused", "succeeded", "failed", "stopped", "stalled_documents")

CONDITION = (
    "state",
    "stage",
    "attempt",
    "worker",
    "stalled",
    "completed_segments",
    "total_segments",
    "error_reason",
    "error_message",
    "processing_started_at",
    "parsing_completed_at",
    "cleaning_completed_at",
    "splitting_completed_at",
    "completed_at",
    "paused_at",
    "stopped_at",
)

IDENTITY = ("position", "document_id", "display_name", "labels", "created_at")

DOCUMENT = (*IDENTITY, *CONDITION, "revision", "updated_at")

DATASET = (
    "dataset_id",
    "batches",
    "open_batches",
    "pending_batches",
    "last_ended",
    *COUNTS,
    "updated_at",
)

BATCH_CONDITION = (
    "sealed",
    *COUNTS,
    "segments_completed",
    "segments_total",
    "segments_unknown",
    "revision",
    "progress_seq",
    "server_epoch",
    "updated_at",
    "ended_at",
)

BATCH = (
    "id",
    "batch_id",
    "labels",
    "start_after_us",
    "stall_after_us",
    "fail_after_us",
    "seal_after_us",
    "created_at",
    *BATCH_CONDITION,
)

EVENT = (
    "revision",
    "write_id",
    "kind",
    "position",
    "previous_state",
    "previous_stage",
    "event_at",
    "committed_at",
    "sealed",
)

LOG = (*EVENT, *COUNTS, *CONDITION)


def listed(names: tuple[str, ...], table: str = "") -> str:
    """Return a column list for SQL."""
    prefix = f"{table}." if table else ""
    return ", ".join(f"{prefix}{name}" for name in names)


def placeholders(names: tuple[str, ...]) -> str:
    """Return one question mark for each column."""
    return ", ".join("?" * len(names))


def assignments(names: tuple[str, ...]) -> str:
    """Return the SET list for an UPDATE."""
    return ", ".join(f"{name} = ?" for name in names)
