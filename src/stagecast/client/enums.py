"""The enums of the protos, as strings without their prefix: `Stage.PARSING == "PARSING"`.

`UNKNOWN` stands for a value of a server that is newer than this client.
"""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """Where in the pipeline a document is. Within an attempt it never moves backwards."""

    WAITING = "WAITING"
    PARSING = "PARSING"
    CLEANING = "CLEANING"
    SPLITTING = "SPLITTING"
    INDEXING = "INDEXING"
    COMPLETED = "COMPLETED"
    UNKNOWN = "UNKNOWN"


class DocumentState(StrEnum):
    """Whether a document is done."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    UNKNOWN = "UNKNOWN"

    @property
    def terminal(self) -> bool:
        """Whether only another attempt can leave this state."""
        return self in (DocumentState.SUCCEEDED, DocumentState.FAILED, DocumentState.STOPPED)


class BatchState(StrEnum):
    """Whether a batch is done. Only a sealed batch whose documents are all terminal is terminal."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SUCCEEDED = "SUCCEEDED"
    PARTIALLY_SUCCEEDED = "PARTIALLY_SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    UNKNOWN = "UNKNOWN"

    @property
    def terminal(self) -> bool:
        """Whether all documents are done and none can be added."""
        return self in (
            BatchState.SUCCEEDED,
            BatchState.PARTIALLY_SUCCEEDED,
            BatchState.FAILED,
            BatchState.STOPPED,
        )


class DatasetState(StrEnum):
    """Whether a dataset has open batches, or else how its last batch ended."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"


class TransitionKind(StrEnum):
    """What a transition changed; `CREATED` and `SEALED` concern the batch, others a document."""

    CREATED = "CREATED"
    REGISTERED = "REGISTERED"
    SEALED = "SEALED"
    STARTED = "STARTED"
    STAGE_ENTERED = "STAGE_ENTERED"
    PAUSED = "PAUSED"
    RESUMED = "RESUMED"
    STALLED = "STALLED"
    RECOVERED = "RECOVERED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    RETRIED = "RETRIED"
    UNKNOWN = "UNKNOWN"


class SnapshotReason(StrEnum):
    """Why a watch gives a snapshot; after `INITIAL`, transitions were or may have been missed."""

    INITIAL = "INITIAL"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105 - no secret
    HISTORY_CHANGED = "HISTORY_CHANGED"
    UNKNOWN = "UNKNOWN"


class ReportOutcome(StrEnum):
    """The effect of a report; all but `APPLIED` changed nothing."""

    APPLIED = "APPLIED"
    DUPLICATE = "DUPLICATE"
    OVERTAKEN = "OVERTAKEN"
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"


class WorkerOrder(StrEnum):
    """What a worker should do with a document: go on, drop it, hold it, or end work on it."""

    GO_ON = "GO_ON"
    DROP = "DROP"
    PAUSE = "PAUSE"
    STOP = "STOP"
    UNKNOWN = "UNKNOWN"
