"""Short forms of the calls that the gRPC tests make."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio
from sqlite_utils.utils import sqlite3

from stagecast.client import Stubs
from stagecast.v1 import control_service_pb2 as cs
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.grpc_calls import read

BATCH = "b1"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The error of a refused call; `fields` has the invalid fields with the rules they break."""

    code: grpc.StatusCode
    message: str
    reason: str
    domain: str
    metadata: dict[str, str]
    fields: dict[str, str]
    retry_after_s: float | None


async def refused(call: Awaitable[Any], *, within_s: float = 20) -> Refusal:
    """Wait for a call to be refused and return its error."""
    try:
        async with asyncio.timeout(within_s):
            with pytest.raises(aio.AioRpcError) as caught:
                await call
    except TimeoutError:
        pytest.fail(f"the call was not refused within {within_s:g} s")
    return refusal_of(caught.value)


def refusal_of(error: aio.AioRpcError) -> Refusal:
    """Read the details of an error, and check them against its code and message."""
    packed = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    status = Status.FromString(packed)
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    actual = {detail.TypeName(): detail for detail in status.details}
    for message in (info, bad, retry):
        if message.DESCRIPTOR.full_name in actual:
            actual[message.DESCRIPTOR.full_name].Unpack(message)
    if packed:
        assert status.code == error.code().value[0]
        assert status.message == error.details()
    return Refusal(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        domain=info.domain,
        metadata=dict(info.metadata),
        fields={violation.field: violation.description for violation in bad.field_violations},
        retry_after_s=(
            retry.retry_delay.ToTimedelta().total_seconds()
            if RetryInfo.DESCRIPTOR.full_name in actual
            else None
        ),
    )


def new(document_id: str = "", **fields: Any) -> rs.NewDocument:
    """Return a document to register."""
    return rs.NewDocument(document_id=document_id, **fields)


def stage(document_id: str, reached: r.Stage.ValueType, **fields: Any) -> rs.DocumentReport:
    """Return a report of a stage."""
    return rs.DocumentReport(document_id=document_id, stage=reached, **fields)


def failure(document_id: str, reason: str = "PARSE_FAILED", **fields: Any) -> rs.DocumentReport:
    """Return a report of an error."""
    error = r.DocumentError(reason=reason, message="Page 3 is no text.")
    return rs.DocumentReport(document_id=document_id, error=error, **fields)


def counters(document_id: str, completed: int, total: int | None = None) -> rs.DocumentReport:
    """Return a report of segment counters."""
    progress = r.Progress(completed_segments=completed, total_segments=total)
    return rs.DocumentReport(document_id=document_id, progress=progress)


def step(
    document_id: str, name: str, completed: int = 0, total: int | None = None, **fields: Any
) -> rs.DocumentReport:
    """Return a report of the step within a stage."""
    progress = r.Progress(step=r.Step(name=name, completed=completed, total=total))
    return rs.DocumentReport(document_id=document_id, progress=progress, **fields)


def moment(microseconds: int) -> Timestamp:
    """Return a time of the fake clock as the server shows it."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000)


class Calls:
    """Calls on one dataset; the batch is `b1` by default."""

    def __init__(self, client: Stubs, dataset_id: str) -> None:
        self.client = client
        self.dataset_id = dataset_id

    def _names(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"dataset_id": self.dataset_id, "batch_id": BATCH, **fields}

    async def create(
        self, *documents: str | rs.NewDocument, **fields: Any
    ) -> rs.CreateBatchResponse:
        """Create a batch of documents, each an id or a whole document."""
        new_documents = [new(item) if isinstance(item, str) else item for item in documents]
        request = rs.CreateBatchRequest(**self._names({"documents": new_documents} | fields))
        return await self.client.reports.CreateBatch(request)

    async def add(self, *documents: str | rs.NewDocument, **fields: Any) -> rs.AddDocumentsResponse:
        """Add documents, each an id or a whole document."""
        new_documents = [new(item) if isinstance(item, str) else item for item in documents]
        request = rs.AddDocumentsRequest(**self._names({"documents": new_documents} | fields))
        return await self.client.reports.AddDocuments(request)

    async def seal(self, **fields: Any) -> r.Batch:
        """Seal the batch and return it."""
        request = rs.SealBatchRequest(**self._names(fields))
        return (await self.client.reports.SealBatch(request)).batch

    async def start(
        self, document_id: str, worker: str = "w1", **fields: Any
    ) -> rs.StartAttemptResponse:
        """Take a document for a worker."""
        request = rs.StartAttemptRequest(
            **self._names({"document_id": document_id, "worker": worker} | fields)
        )
        return await self.client.reports.StartAttempt(request)

    async def report(self, *reports: rs.DocumentReport, **fields: Any) -> rs.ReportResponse:
        """Report on documents of the batch."""
        request = rs.ReportRequest(**self._names({"reports": reports} | fields))
        return await self.client.reports.Report(request)

    async def outcomes(self, *reports: rs.DocumentReport, **fields: Any) -> list[str]:
        """Report, and return the outcomes by the ends of their names."""
        response = await self.report(*reports, **fields)
        return [
            rs.ReportOutcome.Name(result.outcome).removeprefix("REPORT_OUTCOME_")
            for result in response.results
        ]

    async def orders(
        self, *documents: str | rs.HeartbeatDocument, **fields: Any
    ) -> list[rs.WorkerOrder.ValueType]:
        """Send a heartbeat of documents, each an id or a whole item, and return the orders."""
        heartbeats = [
            rs.HeartbeatDocument(document_id=item) if isinstance(item, str) else item
            for item in documents
        ]
        request = rs.HeartbeatRequest(**self._names({"documents": heartbeats} | fields))
        response = await self.client.reports.Heartbeat(request)
        assert [order.document_id for order in response.orders] == [
            heartbeat.document_id for heartbeat in heartbeats
        ]
        return [order.order for order in response.orders]

    async def pause(self, document_id: str = "", **fields: Any) -> cs.PauseResponse:
        """Hold a document, or all."""
        request = cs.PauseRequest(**self._names({"document_id": document_id} | fields))
        return await self.client.controls.Pause(request)

    async def resume(self, document_id: str = "", **fields: Any) -> cs.ResumeResponse:
        """Release a document, or all."""
        request = cs.ResumeRequest(**self._names({"document_id": document_id} | fields))
        return await self.client.controls.Resume(request)

    async def stop(self, document_id: str = "", **fields: Any) -> cs.StopResponse:
        """End a document, or all."""
        request = cs.StopRequest(**self._names({"document_id": document_id} | fields))
        return await self.client.controls.Stop(request)

    async def retry(self, document_id: str = "", **fields: Any) -> cs.RetryResponse:
        """Give a document, or all, another attempt."""
        request = cs.RetryRequest(**self._names({"document_id": document_id} | fields))
        return await self.client.controls.Retry(request)

    async def delete_batch(self, **fields: Any) -> None:
        """Delete the batch."""
        request = cs.DeleteBatchRequest(**self._names(fields))
        await self.client.controls.DeleteBatch(request)

    async def delete_dataset(self) -> None:
        """Delete the dataset."""
        request = cs.DeleteDatasetRequest(dataset_id=self.dataset_id)
        await self.client.controls.DeleteDataset(request)

    async def dataset(self) -> r.Dataset:
        """Return the dataset."""
        request = ss.GetDatasetRequest(dataset_id=self.dataset_id)
        return (await self.client.status.GetDataset(request)).dataset

    async def batch(self, **fields: Any) -> r.Batch:
        """Return the batch."""
        request = ss.GetBatchRequest(**self._names(fields))
        return (await self.client.status.GetBatch(request)).batch

    async def document(self, document_id: str, **fields: Any) -> r.Document:
        """Return a document."""
        request = ss.GetDocumentRequest(**self._names({"document_id": document_id} | fields))
        return (await self.client.status.GetDocument(request)).document

    async def page(self, **fields: Any) -> ss.ListDocumentsResponse:
        """Return a page of the batch's documents."""
        request = ss.ListDocumentsRequest(**self._names(fields))
        return await self.client.status.ListDocuments(request)

    async def pages(self, **fields: Any) -> list[ss.ListDocumentsResponse]:
        """Return all pages."""
        pages = [await self.page(**fields)]
        while pages[-1].next_page_token:
            pages.append(await self.page(**fields, page_token=pages[-1].next_page_token))
        return pages

    async def history(self, document_id: str = "", **fields: Any) -> list[r.Transition]:
        """Return all transitions of a document, or of the batch."""
        request = ss.ListTransitionsRequest(
            **self._names({"document_id": document_id, "page_size": 1_000} | fields)
        )
        response = await self.client.status.ListTransitions(request)
        assert not response.next_page_token
        return list(response.transitions)

    async def wait(self, within_s: float = 30, **fields: Any) -> ss.WaitBatchResponse:
        """Wait for the end of the batch, with a deadline."""
        request = ss.WaitBatchRequest(**self._names(fields))
        return await self.client.status.WaitBatch(request, timeout=within_s)

    async def watch(self, **fields: Any) -> list[ss.WatchBatchResponse]:
        """Return all messages of a watch that ends by itself."""
        request = ss.WatchBatchRequest(**self._names(fields))
        return [message async for message in self.client.status.WatchBatch(request, timeout=60)]

    async def token(self) -> str:
        """Return a resume token for the current revision of the batch."""
        return (await self.page(page_size=1)).resume_token

    async def since(self, token: str, **fields: Any) -> list[r.Transition]:
        """Return the transitions from a token to the current revision."""
        now = (await self.batch(**fields)).revision
        request = ss.WatchBatchRequest(
            **self._names({"resume_token": token, "follow": True} | fields)
        )
        actual: list[r.Transition] = []
        watch = self.client.status.WatchBatch(request, timeout=60)
        while not actual or actual[-1].revision < now:
            message = await read(watch)
            assert not message.HasField("snapshot")
            actual += message.transitions
        watch.cancel()
        return actual


def contents(db: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables of a file that a server may have open.

    Except the lease of the stall detector, which is renewed all the time.
    """
    with contextlib.closing(sqlite3.connect(db)) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'stall_detector_lease'"
        )
        return {
            name: connection.execute(f'SELECT * FROM "{name}"').fetchall()  # noqa: S608 - our own
            for (name,) in tables.fetchall()
        }


def execute(db: Path, statement: str, *parameters: object) -> None:
    """Change the file as another process would."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute(statement, parameters)
