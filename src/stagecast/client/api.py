"""The public names: what `stagecast` itself imports when the first of them is used."""

from __future__ import annotations

from stagecast.client.async_client import (
    AsyncClient as AsyncClient,
)
from stagecast.client.async_client import (
    AsyncDatasetsWatch as AsyncDatasetsWatch,
)
from stagecast.client.async_client import (
    AsyncWatch as AsyncWatch,
)
from stagecast.client.calls import (
    DATASET_NAMESPACE as DATASET_NAMESPACE,
)
from stagecast.client.enums import (
    BatchState as BatchState,
)
from stagecast.client.enums import (
    DatasetState as DatasetState,
)
from stagecast.client.enums import (
    DocumentState as DocumentState,
)
from stagecast.client.enums import (
    ReportOutcome as ReportOutcome,
)
from stagecast.client.enums import (
    SnapshotReason as SnapshotReason,
)
from stagecast.client.enums import (
    Stage as Stage,
)
from stagecast.client.enums import (
    TransitionKind as TransitionKind,
)
from stagecast.client.enums import (
    WorkerOrder as WorkerOrder,
)
from stagecast.client.records import (
    Batch as Batch,
)
from stagecast.client.records import (
    ControlResult as ControlResult,
)
from stagecast.client.records import (
    Dataset as Dataset,
)
from stagecast.client.records import (
    DatasetRemoved as DatasetRemoved,
)
from stagecast.client.records import (
    Document as Document,
)
from stagecast.client.records import (
    DocumentCounts as DocumentCounts,
)
from stagecast.client.records import (
    DocumentError as DocumentError,
)
from stagecast.client.records import (
    DocumentProgress as DocumentProgress,
)
from stagecast.client.records import (
    DocumentReport as DocumentReport,
)
from stagecast.client.records import (
    Event as Event,
)
from stagecast.client.records import (
    NewDocument as NewDocument,
)
from stagecast.client.records import (
    Progress as Progress,
)
from stagecast.client.records import (
    ReportResult as ReportResult,
)
from stagecast.client.records import (
    Snapshot as Snapshot,
)
from stagecast.client.records import (
    Transition as Transition,
)
from stagecast.client.sync_client import (
    Client as Client,
)
from stagecast.client.sync_client import (
    DatasetsWatch as DatasetsWatch,
)
from stagecast.client.sync_client import (
    Watch as Watch,
)
from stagecast.errors import (
    BatchDeleted as BatchDeleted,
)
from stagecast.errors import (
    BatchExists as BatchExists,
)
from stagecast.errors import (
    BatchNotFound as BatchNotFound,
)
from stagecast.errors import (
    BatchSealed as BatchSealed,
)
from stagecast.errors import (
    CallFailed as CallFailed,
)
from stagecast.errors import (
    CredentialsError as CredentialsError,
)
from stagecast.errors import (
    CredentialsExpired as CredentialsExpired,
)
from stagecast.errors import (
    CredentialsInvalid as CredentialsInvalid,
)
from stagecast.errors import (
    CredentialsMissing as CredentialsMissing,
)
from stagecast.errors import (
    DatasetNotFound as DatasetNotFound,
)
from stagecast.errors import (
    DeniedError as DeniedError,
)
from stagecast.errors import (
    DocumentExists as DocumentExists,
)
from stagecast.errors import (
    DocumentNotFound as DocumentNotFound,
)
from stagecast.errors import (
    Draining as Draining,
)
from stagecast.errors import (
    ExhaustedError as ExhaustedError,
)
from stagecast.errors import (
    ExistsError as ExistsError,
)
from stagecast.errors import (
    FieldInvalid as FieldInvalid,
)
from stagecast.errors import (
    HistoryChanged as HistoryChanged,
)
from stagecast.errors import (
    HistoryError as HistoryError,
)
from stagecast.errors import (
    IllegalTransition as IllegalTransition,
)
from stagecast.errors import (
    InvalidError as InvalidError,
)
from stagecast.errors import (
    NotFoundError as NotFoundError,
)
from stagecast.errors import (
    RefusedError as RefusedError,
)
from stagecast.errors import (
    RetryableError as RetryableError,
)
from stagecast.errors import (
    ScopeMissing as ScopeMissing,
)
from stagecast.errors import (
    SlowReader as SlowReader,
)
from stagecast.errors import (
    SlowSender as SlowSender,
)
from stagecast.errors import (
    StagecastError as StagecastError,
)
from stagecast.errors import (
    StaleAttempt as StaleAttempt,
)
from stagecast.errors import (
    StoreBusy as StoreBusy,
)
from stagecast.errors import (
    StoreTimeout as StoreTimeout,
)
from stagecast.errors import (
    TimedOut as TimedOut,
)
from stagecast.errors import (
    TokenExpired as TokenExpired,
)
from stagecast.errors import (
    TokenInvalid as TokenInvalid,
)
from stagecast.errors import (
    Unavailable as Unavailable,
)
from stagecast.errors import (
    WatchExpired as WatchExpired,
)
from stagecast.errors import (
    WatchLimit as WatchLimit,
)
