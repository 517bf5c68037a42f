"""Requests of `StatusService`: protobuf to the model, validated field by field.

Every function raises `FieldInvalid` for the first invalid field.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Protocol, TypeVar

from stagecast.errors import FieldInvalid
from stagecast.model import (
    SECOND_US,
    BatchQuery,
    BatchState,
    DatasetQuery,
    DatasetsWatchRequest,
    DocumentQuery,
    DocumentState,
    Page,
    Stage,
    TransitionQuery,
    WatchRequest,
)
from stagecast.v1 import status_service_pb2
from stagecast.wire import checks, names

_MAX_DATASETS = 10_000
_MAX_PAGE = 1_000
_DEFAULT_PAGE = 100
_DEFAULT_HEARTBEAT_S = 15.0
_HOUR_S = 3_600

E = TypeVar("E", bound=IntEnum)


class _Pages(Protocol):
    @property
    def page_size(self) -> int: ...
    @property
    def page_token(self) -> str: ...


_Heartbeats = status_service_pb2.WatchBatchRequest | status_service_pb2.WatchDatasetsRequest


def dataset_query(request: status_service_pb2.ListDatasetsRequest) -> DatasetQuery:
    """Return the query of ListDatasets."""
    return DatasetQuery(dataset_ids=_dataset_ids(request.dataset_ids), page=_page(request))


def batch_query(request: status_service_pb2.ListBatchesRequest) -> BatchQuery:
    """Return the query of ListBatches."""
    return BatchQuery(
        dataset_id=names.dataset_id(request) if request.dataset_id else "",
        states=_members("states", BatchState, request.states),
        page=_page(request),
    )


def document_query(request: status_service_pb2.ListDocumentsRequest) -> DocumentQuery:
    """Return the query of ListDocuments."""
    name = names.batch_name(request)
    return DocumentQuery(
        dataset_id=name[0],
        batch_id=name[1],
        states=_members("states", DocumentState, request.states),
        stages=_members("stages", Stage, request.stages),
        page=_page(request),
    )


def transition_query(request: status_service_pb2.ListTransitionsRequest) -> TransitionQuery:
    """Return the query of ListTransitions."""
    name = names.batch_or_document_name(request)
    return TransitionQuery(
        dataset_id=name[0], batch_id=name[1], document_id=name[2], page=_page(request)
    )


def wait_timeout_s(request: status_service_pb2.WaitBatchRequest) -> float | None:
    """Return the timeout in seconds; `None` if it was omitted."""
    if not request.HasField("timeout"):
        return None
    span = checks.span_us("timeout", request.timeout, min_s=0, max_s=_HOUR_S, zero=False)
    return span / SECOND_US


def watch_request(request: status_service_pb2.WatchBatchRequest) -> WatchRequest:
    """Return the watch of a batch to start."""
    name = names.batch_name(request)
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
    """Return the watch of datasets to start."""
    return DatasetsWatchRequest(
        dataset_ids=_dataset_ids(request.dataset_ids), heartbeat_s=_heartbeat_s(request)
    )


def _dataset_ids(values: Sequence[str]) -> frozenset[str] | None:
    """Return the dataset ids, or `None` for all."""
    checks.count("dataset_ids", len(values), minimum=0, maximum=_MAX_DATASETS)

    def check(value: str) -> str:
        try:
            return checks.dataset_id(value)
        except FieldInvalid as error:
            raise FieldInvalid("", error.rule) from None

    return frozenset(checks.each("dataset_ids", check, values)) or None


def _page(request: _Pages) -> Page:
    if not 0 <= request.page_size <= _MAX_PAGE:
        raise FieldInvalid("page_size", f"must be 0 to {_MAX_PAGE}")
    return Page(size=request.page_size or _DEFAULT_PAGE, token=request.page_token)


def _heartbeat_s(request: _Heartbeats) -> float:
    if not request.HasField("heartbeat_interval"):
        return _DEFAULT_HEARTBEAT_S
    span = checks.span_us(
        "heartbeat_interval", request.heartbeat_interval, min_s=1, max_s=300, zero=False
    )
    return span / SECOND_US


def _members(field: str, enum: type[E], values: Iterable[int]) -> frozenset[E]:
    return frozenset(checks.each(field, lambda value: checks.member("", enum, value), values))
