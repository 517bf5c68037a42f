"""Requests: protobuf to what the service is asked, checked field by field.

Every function raises `FieldInvalid` for the first field that breaks its rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Protocol, TypeVar

from stagecast.errors import FieldInvalid
from stagecast.model import (
    LOST,
    BatchQuery,
    BatchState,
    Beat,
    DatasetQuery,
    DatasetsWatchRequest,
    DocumentError,
    DocumentQuery,
    DocumentState,
    NewBatch,
    NewDocument,
    Page,
    Progress,
    Report,
    Stage,
    TransitionQuery,
    WatchRequest,
)
from stagecast.v1 import report_service_pb2, resources_pb2, status_service_pb2
from stagecast.wire import checks

MAX_DOCUMENTS = 10_000
MAX_REPORTS = 1_000
MAX_DATASETS = 10_000
MAX_PAGE = 1_000
DEFAULT_PAGE = 100
DEFAULT_STALL_AFTER_US = 300 * checks.MICROSECONDS
DEFAULT_HEARTBEAT_S = 15.0

_HOUR_S = 3_600
_YEAR_S = 365 * 86_400
_MAX_MESSAGE = 4_096  # characters of an error's text
_MAX_SEGMENTS = 2**31 - 1  # so that the sum over a batch fits 64 bits
_MAX_ID_BYTES = 3 << 20  # of all documents of a call: the answer repeats them

E = TypeVar("E", bound=IntEnum)


class _NamesDataset(Protocol):
    @property
    def dataset_id(self) -> str: ...


class _NamesBatch(_NamesDataset, Protocol):
    @property
    def batch_id(self) -> str: ...


class _NamesDocument(_NamesBatch, Protocol):
    @property
    def document_id(self) -> str: ...


class _Pages(Protocol):
    @property
    def page_size(self) -> int: ...
    @property
    def page_token(self) -> str: ...


_Beats = status_service_pb2.WatchBatchRequest | status_service_pb2.WatchDatasetsRequest


def dataset_id(request: _NamesDataset) -> str:
    """Return the id of the dataset that a request names."""
    return checks.dataset_id(request.dataset_id)


def batch_name(request: _NamesBatch) -> tuple[str, str]:
    """Return the ids of the dataset and the batch that a request names."""
    return dataset_id(request), checks.batch_id(request.batch_id)


def document_name(request: _NamesDocument) -> tuple[str, str, str]:
    """Return the ids of the dataset, the batch and the document that a request names."""
    return *batch_name(request), _document_id("document_id", request.document_id)


def batch_or_document_name(request: _NamesDocument) -> tuple[str, str, str]:
    """Return the ids that a request names; the document's is empty for the whole batch."""
    if request.document_id:
        return document_name(request)
    return *batch_name(request), ""


def new_batch(request: report_service_pb2.CreateBatchRequest) -> NewBatch:
    """Return the batch to create."""
    return NewBatch(
        dataset_id=dataset_id(request),
        batch_id=checks.batch_id(request.batch_id) if request.batch_id else "",
        documents=new_documents(request.documents),
        labels=checks.labels("labels", request.labels),
        more_documents_follow=request.more_documents_follow,
        stall_after_us=_patience(request, "stall_after", DEFAULT_STALL_AFTER_US),
        fail_after_us=_patience(request, "fail_after", 0),
        request_id=checks.text("request_id", request.request_id, least=0, most=128),
    )


def new_documents(documents: Sequence[report_service_pb2.NewDocument]) -> list[NewDocument]:
    """Return the documents to register; an id occurs once."""
    checks.count("documents", len(documents), least=0, most=MAX_DOCUMENTS)
    if sum(len(new.document_id.encode()) for new in documents) > _MAX_ID_BYTES:
        raise FieldInvalid("documents", f"ids must have at most {_MAX_ID_BYTES} bytes in all")
    registered = []
    seen: set[str] = set()
    for index, new in enumerate(documents):
        path = f"documents[{index}]"
        document_id = checks.text(f"{path}.document_id", new.document_id, least=0, most=256)
        if document_id in seen:
            raise FieldInvalid(f"{path}.document_id", f"occurs twice: {document_id!r}")
        if document_id:
            seen.add(document_id)
        registered.append(
            NewDocument(
                document_id=document_id,
                display_name=checks.text(
                    f"{path}.display_name", new.display_name, least=0, most=256
                ),
                labels=checks.labels(f"{path}.labels", new.labels),
            )
        )
    return registered


def worker(request: report_service_pb2.StartAttemptRequest) -> str:
    """Return who asks for a document."""
    return checks.text("worker", request.worker, least=1, most=256)


def reports(request: report_service_pb2.ReportRequest) -> list[Report]:
    """Return the reports of a call."""
    checks.count("reports", len(request.reports), least=1, most=MAX_REPORTS)
    return [_report(f"reports[{index}]", given) for index, given in enumerate(request.reports)]


def beats(request: report_service_pb2.HeartbeatRequest) -> list[Beat]:
    """Return the documents that a worker still has."""
    checks.count("documents", len(request.documents), least=1, most=MAX_REPORTS)
    return [_beat(f"documents[{index}]", given) for index, given in enumerate(request.documents)]


def dataset_query(request: status_service_pb2.ListDatasetsRequest) -> DatasetQuery:
    """Return which datasets are asked for."""
    return DatasetQuery(dataset_ids=_dataset_ids(request.dataset_ids), page=_page(request))


def batch_query(request: status_service_pb2.ListBatchesRequest) -> BatchQuery:
    """Return which batches are asked for."""
    return BatchQuery(
        dataset_id=dataset_id(request) if request.dataset_id else "",
        states=_members("states", BatchState, request.states),
        page=_page(request),
    )


def document_query(request: status_service_pb2.ListDocumentsRequest) -> DocumentQuery:
    """Return which documents are asked for."""
    name = batch_name(request)
    return DocumentQuery(
        dataset_id=name[0],
        batch_id=name[1],
        states=_members("states", DocumentState, request.states),
        stages=_members("stages", Stage, request.stages),
        page=_page(request),
    )


def transition_query(request: status_service_pb2.ListTransitionsRequest) -> TransitionQuery:
    """Return whose history is asked for."""
    name = batch_or_document_name(request)
    return TransitionQuery(
        dataset_id=name[0], batch_id=name[1], document_id=name[2], page=_page(request)
    )


def wait_timeout_s(request: status_service_pb2.WaitBatchRequest) -> float | None:
    """Return how long to wait; `None` if that was left out."""
    if not request.HasField("timeout"):
        return None
    span = checks.span_us("timeout", request.timeout, least_s=0, most_s=_HOUR_S, zero=False)
    return span / checks.MICROSECONDS


def watch_request(request: status_service_pb2.WatchBatchRequest) -> WatchRequest:
    """Return the watch that is asked for."""
    name = batch_name(request)
    return WatchRequest(
        dataset_id=name[0],
        batch_id=name[1],
        resume_token=request.resume_token,
        follow=request.follow,
        heartbeat_s=_heartbeat_s(request),
        transitions_only=request.transitions_only,
        fail_on_expired_token=request.fail_on_expired_token,
    )


def datasets_watch_request(
    request: status_service_pb2.WatchDatasetsRequest,
) -> DatasetsWatchRequest:
    """Return the watch of datasets that is asked for."""
    return DatasetsWatchRequest(
        dataset_ids=_dataset_ids(request.dataset_ids), heartbeat_s=_heartbeat_s(request)
    )


def _dataset_ids(given: Sequence[str]) -> frozenset[str] | None:
    """Return the datasets that are named, or `None` for all."""
    checks.count("dataset_ids", len(given), least=0, most=MAX_DATASETS)
    found = []
    for index, value in enumerate(given):
        try:
            found.append(checks.dataset_id(value))
        except FieldInvalid as error:
            raise FieldInvalid(f"dataset_ids[{index}]", error.rule) from None
    return frozenset(found) or None


def _page(request: _Pages) -> Page:
    if not 0 <= request.page_size <= MAX_PAGE:
        raise FieldInvalid("page_size", f"must be 0 to {MAX_PAGE}")
    return Page(size=request.page_size or DEFAULT_PAGE, token=request.page_token)


def _heartbeat_s(request: _Beats) -> float:
    if not request.HasField("heartbeat_interval"):
        return DEFAULT_HEARTBEAT_S
    span = checks.span_us(
        "heartbeat_interval", request.heartbeat_interval, least_s=1, most_s=300, zero=False
    )
    return span / checks.MICROSECONDS


def _document_id(field: str, value: str) -> str:
    return checks.text(field, value, least=1, most=256)


def _patience(request: report_service_pb2.CreateBatchRequest, field: str, default: int) -> int:
    if not request.HasField(field):  # type: ignore[arg-type]  # one of two literals
        return default
    return checks.span_us(field, getattr(request, field), least_s=1, most_s=_YEAR_S, zero=True)


def _beat(path: str, given: report_service_pb2.HeartbeatDocument) -> Beat:
    return Beat(
        document_id=_document_id(f"{path}.document_id", given.document_id),
        attempt=_attempt(f"{path}.attempt", given.attempt),
    )


def _attempt(field: str, value: int) -> int:
    if value < 0:
        raise FieldInvalid(field, "must be 0 or more")
    return value


def _report(path: str, given: report_service_pb2.DocumentReport) -> Report:
    document_id = _document_id(f"{path}.document_id", given.document_id)
    attempt = _attempt(f"{path}.attempt", given.attempt)
    stage = _member(f"{path}.stage", Stage, given.stage) if given.stage else None
    progress = _progress(f"{path}.progress", given.progress) if given.HasField("progress") else None
    error = _error(f"{path}.error", given.error) if given.HasField("error") else None
    if stage is None and progress is None and error is None:
        raise FieldInvalid(path, "must have a stage, progress or an error")
    if stage is Stage.COMPLETED and error is not None:
        raise FieldInvalid(f"{path}.error", "must not go together with STAGE_COMPLETED")
    event_at = None
    if given.HasField("event_time"):
        event_at = checks.moment_us(f"{path}.event_time", given.event_time)
    return Report(
        document_id=document_id,
        attempt=attempt,
        stage=stage,
        progress=progress,
        error=error,
        event_at=event_at,
    )


def _progress(path: str, given: resources_pb2.Progress) -> Progress:
    total = given.total_segments if given.HasField("total_segments") else None
    for field, value in (
        ("completed_segments", given.completed_segments),
        ("total_segments", total),
    ):
        if value is not None and not 0 <= value <= _MAX_SEGMENTS:
            raise FieldInvalid(f"{path}.{field}", f"must be 0 to {_MAX_SEGMENTS}")
    if total is not None and given.completed_segments > total:
        raise FieldInvalid(
            f"{path}.completed_segments",
            f"{given.completed_segments} is more than the total of {total}",
        )
    return Progress(completed_segments=given.completed_segments, total_segments=total)


def _error(path: str, given: resources_pb2.DocumentError) -> DocumentError:
    if len(given.message) > _MAX_MESSAGE:
        raise FieldInvalid(
            f"{path}.message",
            f"must have at most {_MAX_MESSAGE} characters, has {len(given.message)}",
        )
    if given.reason == LOST.reason:
        raise FieldInvalid(f"{path}.reason", f"{LOST.reason} is what stagecast itself says")
    return DocumentError(
        reason=checks.reason(f"{path}.reason", given.reason), message=given.message
    )


def _members(field: str, enum: type[E], values: Iterable[int]) -> frozenset[E]:
    return frozenset(
        _member(f"{field}[{index}]", enum, value) for index, value in enumerate(values)
    )


def _member(field: str, enum: type[E], value: int) -> E:
    try:
        return enum(value)
    except ValueError:
        raise FieldInvalid(field, f"must be one of the named values, is {value}") from None
