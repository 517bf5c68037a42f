"""stagecast: workers report the stages of documents, clients watch every transition.

The public names are imported when the first is used, so that `import stagecast` alone loads neither
gRPC nor protobuf.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stagecast.client.api import *  # noqa: F403 - all names below

__all__ = [
    "DATASET_NAMESPACE",
    "AsyncClient",
    "AsyncDatasetsWatch",
    "AsyncWatch",
    "Batch",
    "BatchDeleted",
    "BatchExists",
    "BatchNotFound",
    "BatchSealed",
    "BatchState",
    "CallFailed",
    "Client",
    "ControlResult",
    "CredentialsError",
    "CredentialsExpired",
    "CredentialsInvalid",
    "CredentialsMissing",
    "Dataset",
    "DatasetNotFound",
    "DatasetRemoved",
    "DatasetState",
    "DatasetsWatch",
    "DeniedError",
    "Document",
    "DocumentCounts",
    "DocumentError",
    "DocumentExists",
    "DocumentNotFound",
    "DocumentProgress",
    "DocumentReport",
    "DocumentState",
    "Draining",
    "Event",
    "ExhaustedError",
    "ExistsError",
    "FieldInvalid",
    "HistoryChanged",
    "HistoryError",
    "IllegalTransition",
    "InvalidError",
    "NewDocument",
    "NotFoundError",
    "Progress",
    "RefusedError",
    "ReportOutcome",
    "ReportResult",
    "RetryableError",
    "ScopeMissing",
    "SlowReader",
    "SlowSender",
    "Snapshot",
    "SnapshotReason",
    "Stage",
    "StagecastError",
    "StaleAttempt",
    "StoreBusy",
    "StoreTimeout",
    "TimedOut",
    "TokenExpired",
    "TokenInvalid",
    "Transition",
    "TransitionKind",
    "Unavailable",
    "Watch",
    "WatchExpired",
    "WatchLimit",
    "WorkerOrder",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - of any type
    """Return a public name."""
    if name in __all__:
        return getattr(import_module("stagecast.client.api"), name)
    raise AttributeError(f"module 'stagecast' has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
