"""Every RPC as a value: its request, made from arguments, and how its response is read.

Both clients send these; only how they wait differs.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast.client.arguments import (
    INT32,
    Span,
    duration_of,
    flag_of,
    id_of,
    id_or_none,
    instance_of,
    items_of,
    labels_of,
    number_of,
    number_or_none,
    refusal,
    text_of,
)
from stagecast.client.conversion import (
    batch_of,
    dataset_of,
    document_of,
    order_of,
    result_of,
    transition_of,
)
from stagecast.client.datasets import dataset_id
from stagecast.client.enums import BatchState, DocumentState, Stage, WorkerOrder
from stagecast.client.records import (
    Batch,
    ControlResult,
    Dataset,
    Document,
    DocumentError,
    DocumentReport,
    Labels,
    NewDocument,
    Progress,
    ReportResult,
    Step,
    Transition,
)
from stagecast.v1 import control_service_pb2 as c
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s

T = TypeVar("T")

_PAGE_SIZE = 1_000  # the maximum


@dataclass(frozen=True, kw_only=True, slots=True)
class Call(Generic[T]):
    """A call of an RPC.

    Attributes:
        request: the message to send, which names the RPC as well: `GetBatchRequest`.
        read: makes the result from the response.
        dataset: what the caller named, for errors.
        wait_s: how long the server may wait before it answers.
    """

    request: Message
    read: Callable[[Any], T]
    dataset: str | uuid.UUID | None = None
    wait_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(Generic[T]):
    """A page of a list, and the call for the next one."""

    items: list[T]
    next: Call[Page[T]] | None


def method_of(request: Message) -> dict[str, Any]:
    """Return the arguments with which a channel calls the RPC of a request.

    In the protos an RPC has the name of its request, and a file has one service.
    """
    [service] = request.DESCRIPTOR.file.services_by_name.values()
    rpc: Any = service.methods_by_name[request.DESCRIPTOR.name.removesuffix("Request")]
    return {
        "method": f"/{service.full_name}/{rpc.name}",
        "request_serializer": type(request).SerializeToString,
        "response_deserializer": GetMessageClass(rpc.output_type).FromString,
    }


def ids_of(
    dataset: str | uuid.UUID, batch_id: str, document_id: str | None = None
) -> dict[str, Any]:
    """Return the id fields of a request on a batch, or on a document of it.

    Raises:
        TypeError, ValueError: an id is invalid; an empty document id would mean the whole batch.
    """
    ids = {"dataset_id": dataset_id(dataset), "batch_id": id_of("batch_id", batch_id)}
    return ids if document_id is None else ids | {"document_id": id_of("document_id", document_id)}


def dataset_ids_of(datasets: Iterable[str | uuid.UUID]) -> list[str]:
    """Return the ids of datasets."""
    return [dataset_id(dataset) for dataset in items_of("datasets", datasets)]


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
        request=pb.CreateBatchRequest(
            dataset_id=dataset_id(dataset),
            batch_id=id_or_none("batch_id", batch_id),
            documents=map(_new_document, items_of("documents", documents)),
            labels=None if labels is None else labels_of("labels", labels),
            more_documents_follow=flag_of("more_documents_follow", more_documents_follow),
            start_after=duration_of("start_after", start_after),
            stall_after=duration_of("stall_after", stall_after),
            fail_after=duration_of("fail_after", fail_after),
            seal_after=duration_of("seal_after", seal_after),
            request_id="" if batch_id else str(uuid.uuid4()),
            dataset_name="" if dataset_name is None else text_of("dataset_name", dataset_name),
        ),
        read=_batch,
        dataset=dataset,
    )


def add_documents(
    dataset: str | uuid.UUID, batch_id: str, documents: Iterable[str | NewDocument]
) -> Call[Batch]:
    """Return the call of `AddDocuments`."""
    return Call(
        request=pb.AddDocumentsRequest(
            **ids_of(dataset, batch_id),
            documents=map(_new_document, items_of("documents", documents)),
        ),
        read=_batch,
        dataset=dataset,
    )


def seal_batch(dataset: str | uuid.UUID, batch_id: str) -> Call[Batch]:
    """Return the call of `SealBatch`."""
    return Call(
        request=pb.SealBatchRequest(**ids_of(dataset, batch_id)),
        read=_batch,
        dataset=dataset,
    )


def start_attempt(
    dataset: str | uuid.UUID, batch_id: str, document_id: str, worker: str, *, only_if_pending: bool
) -> Call[Document]:
    """Return the call of `StartAttempt`."""
    return Call(
        request=pb.StartAttemptRequest(
            **ids_of(dataset, batch_id, document_id),
            worker=text_of("worker", worker),
            only_if_pending=flag_of("only_if_pending", only_if_pending),
        ),
        read=_document,
        dataset=dataset,
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
        request=pb.ReportRequest(
            **ids_of(dataset, batch_id),
            reports=map(_report, items_of("reports", reports)),
            allow_partial=flag_of("allow_partial", allow_partial),
        ),
        read=lambda response: list(map(result_of, response.results)),
        dataset=dataset,
    )


def heartbeat(
    dataset: str | uuid.UUID, batch_id: str, attempts: Mapping[str, int]
) -> Call[dict[str, WorkerOrder]]:
    """Return the call of `Heartbeat` with attempts by document."""
    return Call(
        request=pb.HeartbeatRequest(**ids_of(dataset, batch_id), documents=_heartbeats(attempts)),
        read=lambda response: {order.document_id: order_of(order) for order in response.orders},
        dataset=dataset,
    )


# Status.


def get_dataset(dataset: str | uuid.UUID) -> Call[Dataset]:
    """Return the call of `GetDataset`."""
    return Call(
        request=s.GetDatasetRequest(dataset_id=dataset_id(dataset)),
        read=lambda response: dataset_of(response.dataset),
        dataset=dataset,
    )


def get_batch(dataset: str | uuid.UUID, batch_id: str) -> Call[Batch]:
    """Return the call of `GetBatch`."""
    return Call(
        request=s.GetBatchRequest(**ids_of(dataset, batch_id)),
        read=_batch,
        dataset=dataset,
    )


def get_document(dataset: str | uuid.UUID, batch_id: str, document_id: str) -> Call[Document]:
    """Return the call of `GetDocument`."""
    return Call(
        request=s.GetDocumentRequest(**ids_of(dataset, batch_id, document_id)),
        read=_document,
        dataset=dataset,
    )


def list_datasets(datasets: Iterable[str | uuid.UUID]) -> Call[Page[Dataset]]:
    """Return the call of `ListDatasets` for the first page."""
    request = s.ListDatasetsRequest(dataset_ids=dataset_ids_of(datasets))
    return _list(request, lambda response: map(dataset_of, response.datasets))


def list_batches(
    dataset: str | uuid.UUID | None, states: Iterable[BatchState | str]
) -> Call[Page[Batch]]:
    """Return the call of `ListBatches` for the first page."""
    request = s.ListBatchesRequest(
        dataset_id="" if dataset is None else dataset_id(dataset),
        states=_numbers(BatchState, "states", states),
    )
    return _list(request, lambda response: map(batch_of, response.batches), dataset)


def list_documents(
    dataset: str | uuid.UUID,
    batch_id: str,
    states: Iterable[DocumentState | str],
    stages: Iterable[Stage | str],
) -> Call[Page[Document]]:
    """Return the call of `ListDocuments` for the first page."""
    request = s.ListDocumentsRequest(
        **ids_of(dataset, batch_id),
        states=_numbers(DocumentState, "states", states),
        stages=_numbers(Stage, "stages", stages),
    )
    return _list(request, lambda response: map(document_of, response.documents), dataset)


def list_transitions(
    dataset: str | uuid.UUID, batch_id: str, document_id: str | None
) -> Call[Page[Transition]]:
    """Return the call of `ListTransitions` for the first page."""
    request = s.ListTransitionsRequest(**ids_of(dataset, batch_id, document_id))
    return _list(request, lambda response: map(transition_of, response.transitions), dataset)


def wait_batch(
    dataset: str | uuid.UUID, batch_id: str, timeout_s: float
) -> Call[tuple[Batch, bool]]:
    """Return the call of `WaitBatch`, which tells whether the batch is terminal."""
    return Call(
        request=s.WaitBatchRequest(
            **ids_of(dataset, batch_id), timeout=duration_of("timeout", timeout_s)
        ),
        read=lambda response: (batch_of(response.batch), response.done),
        dataset=dataset,
        wait_s=timeout_s,
    )


# Controls.


def control(
    verb: str, dataset: str | uuid.UUID, batch_id: str, document_id: str | None
) -> Call[ControlResult]:
    """Return the call of `Pause`, `Resume`, `Stop` or `Retry`."""
    return Call(
        request=getattr(c, f"{verb}Request")(**ids_of(dataset, batch_id, document_id)),
        read=lambda response: ControlResult(
            batch=batch_of(response.batch), changed_documents=response.changed_documents
        ),
        dataset=dataset,
    )


def delete_batch(dataset: str | uuid.UUID, batch_id: str) -> Call[None]:
    """Return the call of `DeleteBatch`."""
    return Call(
        request=c.DeleteBatchRequest(**ids_of(dataset, batch_id)),
        read=_nothing,
        dataset=dataset,
    )


def delete_dataset(dataset: str | uuid.UUID) -> Call[None]:
    """Return the call of `DeleteDataset`."""
    return Call(
        request=c.DeleteDatasetRequest(dataset_id=dataset_id(dataset)),
        read=_nothing,
        dataset=dataset,
    )


def _batch(response: Any) -> Batch:  # noqa: ANN401 - of several messages
    return batch_of(response.batch)


def _document(response: Any) -> Document:  # noqa: ANN401 - of several messages
    return document_of(response.document)


def _nothing(_response: object) -> None:
    pass


def _list(
    request: Any,  # noqa: ANN401 - of several messages
    read: Callable[[Any], Iterable[T]],
    dataset: str | uuid.UUID | None = None,
) -> Call[Page[T]]:
    """Return the call for a page, of which `read` returns the items."""
    request.page_size = _PAGE_SIZE

    def read_page(response: Any) -> Page[T]:  # noqa: ANN401 - of several messages
        if not response.next_page_token:
            return Page(items=list(read(response)), next=None)
        following = type(request)()
        following.CopyFrom(request)
        following.page_token = response.next_page_token
        return Page(items=list(read(response)), next=_list(following, read, dataset))

    return Call(request=request, read=read_page, dataset=dataset)


def _numbers(enum: type[StrEnum], name: str, values: Iterable[str]) -> list[Any]:
    """Return the numbers of the values of a list."""
    return [_number(enum, value) for value in items_of(name, values)]


def _number(enum: type[StrEnum], value: str) -> Any:  # noqa: ANN401 - of any enum
    """Return the number of an enum value.

    Raises:
        ValueError: there is no such value.
    """
    values = getattr(r, enum.__name__)
    try:
        return values.Value(f"{values.keys()[0].removesuffix('UNSPECIFIED')}{value}")
    except ValueError:
        accepted = ", ".join(name for name in enum if name != "UNKNOWN")
        raise ValueError(refusal(enum.__name__, value, f"one of {accepted}")) from None


def _heartbeats(attempts: Mapping[str, int]) -> list[pb.HeartbeatDocument]:
    if not isinstance(attempts, Mapping):
        accepted = "a mapping from document ids to attempts, such as {'letter.txt': 1}"
        raise TypeError(refusal("attempts", attempts, accepted))
    return [
        pb.HeartbeatDocument(
            document_id=id_of("document_id", document_id),
            attempt=number_of("attempt", attempt, INT32),
        )
        for document_id, attempt in attempts.items()
    ]


def _new_document(document: str | NewDocument) -> pb.NewDocument:
    if isinstance(document, str):
        return pb.NewDocument(document_id=id_of("document", document))
    if not isinstance(document, NewDocument):
        raise TypeError(refusal("document", document, "an id or a NewDocument"))
    return pb.NewDocument(
        document_id=id_of("document_id", document.document_id),
        display_name=text_of("display_name", document.display_name),
        labels=labels_of("labels", document.labels),
    )


def _progress(progress: Progress) -> r.Progress:
    instance_of("progress", progress, Progress)
    return r.Progress(
        completed_segments=number_of("completed_segments", progress.completed_segments),
        total_segments=number_or_none("total_segments", progress.total_segments),
        step=None if progress.step is None else _step(progress.step),
    )


def _step(step: Step) -> r.Step:
    instance_of("step", step, Step)
    return r.Step(
        name=text_of("name", step.name),
        completed=number_of("completed", step.completed),
        total=number_or_none("total", step.total),
    )


def _time(event_time: datetime) -> Timestamp:
    instance_of("event_time", event_time, datetime)
    message = Timestamp()
    try:
        message.FromDatetime(event_time.astimezone())
    except (ValueError, OverflowError):  # at the ends of the calendar
        raise ValueError(refusal("event_time", event_time, "a time in UTC")) from None
    return message


def _report(report: DocumentReport) -> pb.DocumentReport:
    instance_of("report", report, DocumentReport)
    message = pb.DocumentReport(
        document_id=id_of("document_id", report.document_id),
        attempt=number_of("attempt", report.attempt, INT32),
    )
    if report.stage is not None:
        message.stage = _number(Stage, report.stage)
    if report.progress is not None:
        message.progress.CopyFrom(_progress(report.progress))
    if report.error is not None:
        error = instance_of("error", report.error, DocumentError)
        message.error.reason = text_of("reason", error.reason)
        message.error.message = text_of("message", error.message)
    if report.event_time is not None:
        message.event_time.CopyFrom(_time(report.event_time))
    return message
