"""Every RPC as a value: its request, made from arguments, and how its response is read.

Both clients send these; only how they wait differs.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from stagecast.client.conversion import (
    batch_of,
    dataset_of,
    document_of,
    order_of,
    result_of,
    transition_of,
)
from stagecast.client.enums import BatchState, DocumentState, Stage, WorkerOrder
from stagecast.client.records import (
    Batch,
    ControlResult,
    Dataset,
    Document,
    DocumentReport,
    Labels,
    NewDocument,
    Progress,
    ReportResult,
    Transition,
)
from stagecast.v1 import control_service_pb2 as c
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s

T = TypeVar("T")

Span: TypeAlias = timedelta | float
"""A duration, or a number of seconds."""

DATASET_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "stagecast")
_PAGE_SIZE = 1_000  # the maximum


@dataclass(frozen=True, kw_only=True, slots=True)
class Call(Generic[T]):
    """A call of an RPC.

    Attributes:
        rpc: service and method, such as `StatusService/GetBatch`.
        request: the message to send.
        response: the class of the message that is received, each one for a stream.
        read: makes the result from the response.
        wait_s: how long the server may wait before it answers.
    """

    rpc: str
    request: Message
    response: Callable[[bytes], Any]
    read: Callable[[Any], T]
    wait_s: float = 0.0

    @property
    def method(self) -> dict[str, Any]:
        """The arguments with which a channel makes the call."""
        return {
            "method": f"/stagecast.v1.{self.rpc}",
            "request_serializer": type(self.request).SerializeToString,
            "response_deserializer": self.response,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(Generic[T]):
    """A page of a list, and the call for the next one."""

    items: list[T]
    next: Call[Page[T]] | None


def dataset_id_of(dataset: str | uuid.UUID) -> str:
    """Return the id of a dataset: a UUID as it is, for any other text the UUIDv5 of that name.

    Raises:
        TypeError: it is neither, such as the `None` of a variable that is not set.
        ValueError: it is empty.
    """
    if isinstance(dataset, uuid.UUID):
        return str(dataset)
    if not isinstance(dataset, str):
        raise TypeError(f"invalid dataset {dataset!r}; use a UUID or a name")
    if not dataset:
        raise ValueError("invalid dataset ''; use a UUID or a name")
    try:
        return str(uuid.UUID(dataset))
    except ValueError:
        return str(uuid.uuid5(DATASET_NAMESPACE, dataset))


def dataset_ids_of(datasets: Iterable[str | uuid.UUID]) -> Iterable[str]:
    """Return the ids of datasets."""
    return map(dataset_id_of, _items(datasets))


def seconds_of(span: Span) -> float:
    """Return a duration in seconds."""
    return span.total_seconds() if isinstance(span, timedelta) else span


def duration_of(span: Span | None) -> Duration | None:
    """Return a duration as a message."""
    if span is None:
        return None
    duration = Duration()
    duration.FromNanoseconds(round(seconds_of(span) * 1e9))
    return duration


# Reports.


def create_batch(
    dataset: str | uuid.UUID,
    documents: Iterable[str | NewDocument],
    *,
    batch_id: str | None,
    labels: Labels | None,
    more_documents_follow: bool,
    start_after: Span | None,
    stall_after: Span | None,
    fail_after: Span | None,
    seal_after: Span | None,
    dataset_name: str | None,
) -> Call[Batch]:
    """Return the call of `CreateBatch`; without an id, a request id makes it safe to repeat."""
    return Call(
        rpc="ReportService/CreateBatch",
        request=pb.CreateBatchRequest(
            dataset_id=dataset_id_of(dataset),
            batch_id=batch_id or "",
            documents=map(_new_document, _items(documents)),
            labels=labels,
            more_documents_follow=more_documents_follow,
            start_after=duration_of(start_after),
            stall_after=duration_of(stall_after),
            fail_after=duration_of(fail_after),
            seal_after=duration_of(seal_after),
            request_id="" if batch_id else str(uuid.uuid4()),
            dataset_name=dataset_name or "",
        ),
        response=pb.CreateBatchResponse.FromString,
        read=_batch,
    )


def add_documents(
    dataset: str | uuid.UUID, batch_id: str, documents: Iterable[str | NewDocument]
) -> Call[Batch]:
    """Return the call of `AddDocuments`."""
    return Call(
        rpc="ReportService/AddDocuments",
        request=pb.AddDocumentsRequest(
            dataset_id=dataset_id_of(dataset),
            batch_id=batch_id,
            documents=map(_new_document, _items(documents)),
        ),
        response=pb.AddDocumentsResponse.FromString,
        read=_batch,
    )


def seal_batch(dataset: str | uuid.UUID, batch_id: str) -> Call[Batch]:
    """Return the call of `SealBatch`."""
    return Call(
        rpc="ReportService/SealBatch",
        request=pb.SealBatchRequest(dataset_id=dataset_id_of(dataset), batch_id=batch_id),
        response=pb.SealBatchResponse.FromString,
        read=_batch,
    )


def start_attempt(
    dataset: str | uuid.UUID, batch_id: str, document_id: str, worker: str, *, only_if_pending: bool
) -> Call[Document]:
    """Return the call of `StartAttempt`."""
    return Call(
        rpc="ReportService/StartAttempt",
        request=pb.StartAttemptRequest(
            dataset_id=dataset_id_of(dataset),
            batch_id=batch_id,
            document_id=document_id,
            worker=worker,
            only_if_pending=only_if_pending,
        ),
        response=pb.StartAttemptResponse.FromString,
        read=_document,
    )


def report(
    dataset: str | uuid.UUID,
    batch_id: str,
    reports: Iterable[DocumentReport],
    *,
    allow_partial: bool,
) -> Call[list[ReportResult]]:
    """Return the call of `Report`."""
    return Call(
        rpc="ReportService/Report",
        request=pb.ReportRequest(
            dataset_id=dataset_id_of(dataset),
            batch_id=batch_id,
            reports=map(_report, reports),
            allow_partial=allow_partial,
        ),
        response=pb.ReportResponse.FromString,
        read=lambda response: list(map(result_of, response.results)),
    )


def heartbeat(
    dataset: str | uuid.UUID, batch_id: str, attempts: Mapping[str, int]
) -> Call[dict[str, WorkerOrder]]:
    """Return the call of `Heartbeat` with attempts by document."""
    return Call(
        rpc="ReportService/Heartbeat",
        request=pb.HeartbeatRequest(
            dataset_id=dataset_id_of(dataset),
            batch_id=batch_id,
            documents=[
                pb.HeartbeatDocument(document_id=document_id, attempt=attempt)
                for document_id, attempt in attempts.items()
            ],
        ),
        response=pb.HeartbeatResponse.FromString,
        read=lambda response: {order.document_id: order_of(order) for order in response.orders},
    )


# Status.


def get_dataset(dataset: str | uuid.UUID) -> Call[Dataset]:
    """Return the call of `GetDataset`."""
    return Call(
        rpc="StatusService/GetDataset",
        request=s.GetDatasetRequest(dataset_id=dataset_id_of(dataset)),
        response=s.GetDatasetResponse.FromString,
        read=lambda response: dataset_of(response.dataset),
    )


def get_batch(dataset: str | uuid.UUID, batch_id: str) -> Call[Batch]:
    """Return the call of `GetBatch`."""
    return Call(
        rpc="StatusService/GetBatch",
        request=s.GetBatchRequest(dataset_id=dataset_id_of(dataset), batch_id=batch_id),
        response=s.GetBatchResponse.FromString,
        read=_batch,
    )


def get_document(dataset: str | uuid.UUID, batch_id: str, document_id: str) -> Call[Document]:
    """Return the call of `GetDocument`."""
    return Call(
        rpc="StatusService/GetDocument",
        request=s.GetDocumentRequest(
            dataset_id=dataset_id_of(dataset), batch_id=batch_id, document_id=document_id
        ),
        response=s.GetDocumentResponse.FromString,
        read=_document,
    )


def list_datasets(datasets: Iterable[str | uuid.UUID]) -> Call[Page[Dataset]]:
    """Return the call of `ListDatasets` for the first page."""
    request = s.ListDatasetsRequest(dataset_ids=dataset_ids_of(datasets))
    return _list(
        "StatusService/ListDatasets",
        request,
        s.ListDatasetsResponse.FromString,
        lambda response: list(map(dataset_of, response.datasets)),
    )


def list_batches(
    dataset: str | uuid.UUID | None, states: Iterable[BatchState | str]
) -> Call[Page[Batch]]:
    """Return the call of `ListBatches` for the first page."""
    request = s.ListBatchesRequest(
        dataset_id="" if dataset is None else dataset_id_of(dataset),
        states=[_number("BATCH_STATE_", BatchState, state) for state in _items(states)],
    )
    return _list(
        "StatusService/ListBatches",
        request,
        s.ListBatchesResponse.FromString,
        lambda response: list(map(batch_of, response.batches)),
    )


def list_documents(
    dataset: str | uuid.UUID,
    batch_id: str,
    states: Iterable[DocumentState | str],
    stages: Iterable[Stage | str],
) -> Call[Page[Document]]:
    """Return the call of `ListDocuments` for the first page."""
    request = s.ListDocumentsRequest(
        dataset_id=dataset_id_of(dataset),
        batch_id=batch_id,
        states=[_number("DOCUMENT_STATE_", DocumentState, state) for state in _items(states)],
        stages=[_number("STAGE_", Stage, stage) for stage in _items(stages)],
    )
    return _list(
        "StatusService/ListDocuments",
        request,
        s.ListDocumentsResponse.FromString,
        lambda response: list(map(document_of, response.documents)),
    )


def list_transitions(
    dataset: str | uuid.UUID, batch_id: str, document_id: str | None
) -> Call[Page[Transition]]:
    """Return the call of `ListTransitions` for the first page."""
    request = s.ListTransitionsRequest(
        dataset_id=dataset_id_of(dataset), batch_id=batch_id, document_id=document_id or ""
    )
    return _list(
        "StatusService/ListTransitions",
        request,
        s.ListTransitionsResponse.FromString,
        lambda response: list(map(transition_of, response.transitions)),
    )


def wait_batch(
    dataset: str | uuid.UUID, batch_id: str, timeout_s: float
) -> Call[tuple[Batch, bool]]:
    """Return the call of `WaitBatch`, which tells whether the batch is terminal."""
    return Call(
        rpc="StatusService/WaitBatch",
        request=s.WaitBatchRequest(
            dataset_id=dataset_id_of(dataset), batch_id=batch_id, timeout=duration_of(timeout_s)
        ),
        response=s.WaitBatchResponse.FromString,
        read=lambda response: (batch_of(response.batch), response.done),
        wait_s=timeout_s,
    )


# Controls.


def control(
    verb: str, dataset: str | uuid.UUID, batch_id: str, document_id: str | None
) -> Call[ControlResult]:
    """Return the call of `Pause`, `Resume`, `Stop` or `Retry`."""
    return Call(
        rpc=f"ControlService/{verb}",
        request=getattr(c, f"{verb}Request")(
            dataset_id=dataset_id_of(dataset), batch_id=batch_id, document_id=document_id or ""
        ),
        response=getattr(c, f"{verb}Response").FromString,
        read=lambda response: ControlResult(
            batch=batch_of(response.batch), changed_documents=response.changed_documents
        ),
    )


def delete_batch(dataset: str | uuid.UUID, batch_id: str) -> Call[None]:
    """Return the call of `DeleteBatch`."""
    return Call(
        rpc="ControlService/DeleteBatch",
        request=c.DeleteBatchRequest(dataset_id=dataset_id_of(dataset), batch_id=batch_id),
        response=c.DeleteBatchResponse.FromString,
        read=_nothing,
    )


def delete_dataset(dataset: str | uuid.UUID) -> Call[None]:
    """Return the call of `DeleteDataset`."""
    return Call(
        rpc="ControlService/DeleteDataset",
        request=c.DeleteDatasetRequest(dataset_id=dataset_id_of(dataset)),
        response=c.DeleteDatasetResponse.FromString,
        read=_nothing,
    )


def _batch(response: Any) -> Batch:  # noqa: ANN401 - of several messages
    return batch_of(response.batch)


def _document(response: Any) -> Document:  # noqa: ANN401 - of several messages
    return document_of(response.document)


def _nothing(_response: object) -> None:
    pass


def _list(
    rpc: str,
    request: Any,  # noqa: ANN401 - of several messages
    response: Callable[[bytes], Any],
    items_of: Callable[[Any], list[T]],
) -> Call[Page[T]]:
    """Return the call for a page."""
    request.page_size = _PAGE_SIZE
    read = partial(_page, rpc, request, response, items_of)
    return Call(rpc=rpc, request=request, response=response, read=read)


def _page(
    rpc: str,
    request: Any,  # noqa: ANN401 - of several messages
    response: Callable[[bytes], Any],
    items_of: Callable[[Any], list[T]],
    message: Any,  # noqa: ANN401 - of several messages
) -> Page[T]:
    if not message.next_page_token:
        return Page(items=items_of(message), next=None)
    following = type(request)()
    following.CopyFrom(request)
    following.page_token = message.next_page_token
    return Page(items=items_of(message), next=_list(rpc, following, response, items_of))


def _number(prefix: str, names: type[StrEnum], value: str) -> Any:  # noqa: ANN401 - of any enum
    """Return the number of an enum value.

    Raises:
        ValueError: there is no such value.
    """
    try:
        return getattr(r, names.__name__).Value(f"{prefix}{value}")
    except ValueError:
        accepted = ", ".join(name for name in names if name != "UNKNOWN")
        raise ValueError(f"invalid {names.__name__} {value!r}; use one of {accepted}") from None


def _items(values: Iterable[T]) -> Iterable[T]:
    """Return values.

    Raises:
        TypeError: they are one text, which would be taken as its letters.
    """
    if isinstance(values, str):
        raise TypeError(f"{values!r} is not a list; use [{values!r}]")
    return values


def _new_document(document: str | NewDocument) -> pb.NewDocument:
    if isinstance(document, str):
        return pb.NewDocument(document_id=document)
    if not isinstance(document, NewDocument):
        raise TypeError(f"invalid document {document!r}; use an id or a NewDocument")
    return pb.NewDocument(
        document_id=document.document_id,
        display_name=document.display_name,
        labels=document.labels,
    )


def _progress(progress: Progress) -> r.Progress:
    step = progress.step
    return r.Progress(
        completed_segments=progress.completed_segments,
        total_segments=progress.total_segments,
        step=r.Step(name=step.name, completed=step.completed, total=step.total) if step else None,
    )


def _report(report: DocumentReport) -> pb.DocumentReport:
    message = pb.DocumentReport(document_id=report.document_id, attempt=report.attempt)
    if report.stage is not None:
        message.stage = _number("STAGE_", Stage, report.stage)
    if report.progress is not None:
        message.progress.CopyFrom(_progress(report.progress))
    if report.error is not None:
        message.error.reason = report.error.reason
        message.error.message = report.error.message
    if report.event_time is not None:
        message.event_time.FromDatetime(report.event_time.astimezone())
    return message
