"""What a worker says of a document while it has it, and what it is told.

Each report names the attempt; heartbeats go on beside them, and are answered with orders.
The work does not wait for a report to be recorded: what is reported while a call is under way goes
together in the next one. So a small document takes a few calls, and each stage of a large one is
seen when it begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from stagecast.client import Client
from stagecast.client.retry import call
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r

_HEARTBEAT_S = 10.0  # how often a worker says that it lives, if it need not do so more often

_log = logging.getLogger(__name__)


class Dropped(Exception):
    """The document is no longer this worker's: it was stopped, has ended, or another has it."""


@contextlib.asynccontextmanager
async def start(
    client: Client, batch: r.Batch, document_id: str, *, worker: str, delay_s: float = 0.0
) -> AsyncIterator[Attempt]:
    """Take a document for a worker, from another one if need be, and keep it alive for the block.

    All that was reported is recorded when the block has ended well.

    Raises:
        grpc.aio.AioRpcError: a call was refused, or the server did not come back in time.
        Dropped: a report was refused, since the document is no longer this worker's.
    """
    request = pb.StartAttemptRequest(
        dataset_id=batch.dataset_id, batch_id=batch.batch_id, document_id=document_id, worker=worker
    )
    answer = await call(client.reports.StartAttempt, request)
    heartbeat_s = _heartbeat_s(batch.stall_after.ToTimedelta().total_seconds())
    attempt = Attempt(client, answer, heartbeat_s=heartbeat_s, delay_s=delay_s)
    heartbeats = asyncio.create_task(attempt.stay_alive())
    try:
        yield attempt
        await attempt.sent()
    finally:
        heartbeats.cancel()
        await attempt.close()


class Attempt:
    """One attempt at one document: what a worker reports while it has it.

    Each report names the attempt. If another worker has taken the document over in the meantime, it
    is refused with FAILED_PRECONDITION / `STALE_ATTEMPT`; a heartbeat may tell so before that.
    """

    def __init__(
        self,
        client: Client,
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
        self._ordered = asyncio.Event()
        self._unsent: list[pb.DocumentReport] = []
        self._sending: asyncio.Task[None] | None = None

    @property
    def document_id(self) -> str:
        """The document."""
        return self._document.document_id

    async def stay_alive(self) -> None:
        """Say now and then that the worker lives, and note what it is told, until cancelled."""
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
            except aio.AioRpcError as error:  # the next report will find out
                _log.warning("no answer to a heartbeat: %s", error.details())
            else:
                self._order = answer.orders[0].order
                self._ordered.set()

    async def enter(self, stage: r.Stage.ValueType, progress: r.Progress | None = None) -> None:
        """Report that a stage begins; COMPLETED ends the document as SUCCEEDED."""
        await self._report(pb.DocumentReport(stage=stage, progress=progress))

    async def count(self, progress: r.Progress) -> None:
        """Report how far it is; a total that was reported before stays."""
        await self._report(pb.DocumentReport(progress=progress))

    async def fail(self, reason: str, message: str) -> None:
        """Report that the document ends as FAILED, in the stage where it is."""
        error = r.DocumentError(reason=reason, message=message)
        await self._report(pb.DocumentReport(error=error))

    async def sent(self) -> None:
        """Wait until all that was reported is recorded.

        Raises:
            grpc.aio.AioRpcError: the call was refused, or the server did not come back in time.
            Dropped: it was refused, since the document is no longer this worker's.
        """
        if self._sending is not None:
            await self._sending

    async def close(self) -> None:
        """Send nothing any more."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    async def _obey(self) -> None:
        """Hold while the document is paused; raise `Dropped` if it is no longer ours."""
        while self._order == pb.WORKER_ORDER_PAUSE:
            self._ordered.clear()
            await self._ordered.wait()
        if self._order != pb.WORKER_ORDER_GO_ON:
            raise Dropped(f"a heartbeat was answered {pb.WorkerOrder.Name(self._order)}")

    async def _report(self, report: pb.DocumentReport) -> None:
        await self._obey()
        report.document_id = self.document_id
        report.attempt = self._number
        report.event_time.CopyFrom(_now())
        self._unsent.append(report)
        if self._sending is None or self._sending.done():
            await self.sent()
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
    """Return how often to send heartbeats, so that a lost one does no harm; 0 never stalls."""
    return min(_HEARTBEAT_S, stall_after_s / 3) if stall_after_s else _HEARTBEAT_S


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now
