"""One attempt at a document: its reports, its heartbeats, and the orders that answer them.

Reports are sent in the background: those made while a call is in flight go together in the next
one. So a small document takes a few calls, and each stage of a large one is visible when it begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from stagecast.client import Stubs
from stagecast.client.retry import call
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r

_HEARTBEAT_S = 10.0  # the longest interval between heartbeats

_log = logging.getLogger(__name__)


class Dropped(Exception):
    """The attempt is over: the document was stopped, has ended, or belongs to another worker."""


@contextlib.asynccontextmanager
async def start(
    client: Stubs, batch: r.Batch, document_id: str, *, worker: str, delay_s: float = 0.0
) -> AsyncIterator[Attempt]:
    """Start an attempt, which takes the document from any other worker, and send heartbeats.

    When the block ends without an exception, all reports have been recorded.

    Raises:
        grpc.aio.AioRpcError: a call was refused, or the server was unavailable for too long.
        Dropped: a report was refused because the attempt is over.
    """
    request = pb.StartAttemptRequest(
        dataset_id=batch.dataset_id, batch_id=batch.batch_id, document_id=document_id, worker=worker
    )
    answer = await call(client.reports.StartAttempt, request)
    heartbeat_s = _heartbeat_s(batch.stall_after.ToTimedelta().total_seconds())
    attempt = Attempt(client, answer, heartbeat_s=heartbeat_s, delay_s=delay_s)
    heartbeats = asyncio.create_task(attempt.send_heartbeats())
    try:
        yield attempt
        await attempt.flush()
    finally:
        heartbeats.cancel()
        await attempt.close()


class Attempt:
    """Reports on one attempt at one document.

    If another worker has taken the document over, a report is refused with FAILED_PRECONDITION /
    `STALE_ATTEMPT`; the answer to a heartbeat may say so earlier.
    """

    def __init__(
        self,
        client: Stubs,
        answer: pb.StartAttemptResponse,
        *,
        heartbeat_s: float = _HEARTBEAT_S,
        delay_s: float = 0.0,
    ) -> None:
        self._client = client
        self._document = answer.document
        self._number = answer.attempt
        self._heartbeat_s = heartbeat_s
        self._delay_s = delay_s
        self._order = pb.WORKER_ORDER_GO_ON
        self._order_received = asyncio.Event()
        self._unsent: list[pb.DocumentReport] = []
        self._sending: asyncio.Task[None] | None = None

    @property
    def document_id(self) -> str:
        """The id of the document."""
        return self._document.document_id

    async def send_heartbeats(self) -> None:
        """Send heartbeats and store the orders that answer them, until cancelled."""
        heartbeat = pb.HeartbeatDocument(document_id=self.document_id, attempt=self._number)
        request = pb.HeartbeatRequest(
            dataset_id=self._document.dataset_id,
            batch_id=self._document.batch_id,
            documents=[heartbeat],
        )
        while True:
            await asyncio.sleep(self._heartbeat_s)
            try:
                answer = await call(self._client.reports.Heartbeat, request)
            except aio.AioRpcError as error:  # the next report will fail as well
                _log.warning("heartbeat failed: %s", error.details())
            else:
                self._order = answer.orders[0].order
                self._order_received.set()

    async def enter(self, stage: r.Stage.ValueType, progress: r.Progress | None = None) -> None:
        """Report that a stage begins; COMPLETED ends the document as SUCCEEDED."""
        await self._report(pb.DocumentReport(stage=stage, progress=progress))

    async def count(self, progress: r.Progress) -> None:
        """Report progress; without a total, the one reported before stays."""
        await self._report(pb.DocumentReport(progress=progress))

    async def fail(self, reason: str, message: str) -> None:
        """Report that the document has FAILED in its current stage."""
        error = r.DocumentError(reason=reason, message=message)
        await self._report(pb.DocumentReport(error=error))

    async def flush(self) -> None:
        """Wait until all reports have been recorded.

        Raises:
            grpc.aio.AioRpcError: a call was refused, or the server was unavailable for too long.
            Dropped: a report was refused because the attempt is over.
        """
        if self._sending is not None:
            await self._sending

    async def close(self) -> None:
        """Stop sending; unsent reports are discarded."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    async def _follow_order(self) -> None:
        """Wait while the document is paused; raise `Dropped` if the attempt is over."""
        while self._order == pb.WORKER_ORDER_PAUSE:
            self._order_received.clear()
            await self._order_received.wait()
        if self._order != pb.WORKER_ORDER_GO_ON:
            raise Dropped(
                f"the server answered a heartbeat with {pb.WorkerOrder.Name(self._order)}"
            )

    async def _report(self, report: pb.DocumentReport) -> None:
        await self._follow_order()
        report.document_id = self.document_id
        report.attempt = self._number
        report.event_time.CopyFrom(_now())
        self._unsent.append(report)
        if self._sending is None or self._sending.done():
            await self.flush()
            self._sending = asyncio.create_task(self._send())
        await asyncio.sleep(self._delay_s)

    async def _send(self) -> None:
        while self._unsent:
            request = pb.ReportRequest(
                dataset_id=self._document.dataset_id,
                batch_id=self._document.batch_id,
                reports=self._unsent,
            )
            self._unsent = []
            try:
                await call(self._client.reports.Report, request)
            except aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                    raise
                raise Dropped(error.details()) from error


def _heartbeat_s(stall_after_s: float) -> float:
    """Return the interval: a lost heartbeat does no harm; 0 means that documents never stall."""
    return min(_HEARTBEAT_S, stall_after_s / 3) if stall_after_s else _HEARTBEAT_S


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now
