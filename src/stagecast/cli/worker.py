"""A small ingestion worker: the example of how a pipeline reports to stagecast.

Submit a batch; take a document; say which stage it has entered, how far it is, and how it ended:
that is all. Every call may be repeated after a lost answer, so a worker simply tries again.
Meanwhile say now and then that you live, and do what the answer orders.
Of stagecast this needs the client and the protobuf messages; `text` is the pipeline's own work.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from stagecast.cli.text import clean, decode, split
from stagecast.client import Backoff, Client, details_of
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r

Q = TypeVar("Q")
A = TypeVar("A")

_DOCUMENTS_A_CALL = 1_000
_REPORTS_WHILE_INDEXING = 10  # enough for a bar to move, and few enough for a large document
_CALL_S = 10.0  # how long one call may take
_PATIENCE_S = 60.0  # how long a call is repeated while the server is away
_BEAT_S = 10.0  # how often a worker says that it lives, if it need not do so more often
_TRANSIENT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # by a server that let go of the connection
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A file to ingest, and what it is called."""

    document_id: str
    display_name: str
    path: Path


class Index(Protocol):
    """Where chunks are put."""

    async def add(self, document_id: str, first: int, chunks: Sequence[str]) -> None:
        """Put chunks into the index, numbered from `first`, or raise `IngestionError`."""


class IngestionError(Exception):
    """A document cannot be ingested: the reason for programs, and a message for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Dropped(Exception):
    """The document is no longer this worker's: it was stopped, has ended, or another has it."""


async def submit(client: Client, dataset_id: str, sources: Sequence[Source]) -> r.Batch:
    """Create a batch of the documents, in several calls if they are many, and return it.

    Raises:
        grpc.aio.AioRpcError: the server is not there, or refused.
    """
    documents = [
        pb.NewDocument(document_id=source.document_id, display_name=source.display_name)
        for source in sources
    ]
    calls = range(0, len(documents), _DOCUMENTS_A_CALL)
    first, *rest = [documents[start : start + _DOCUMENTS_A_CALL] for start in calls]
    create = pb.CreateBatchRequest(
        dataset_id=dataset_id,
        documents=first,
        more_documents_follow=bool(rest),
        request_id=str(uuid.uuid4()),  # makes it safe to repeat
    )
    batch = (await call(client.reports.CreateBatch, create, patience_s=0)).batch
    for more in rest:
        add = pb.AddDocumentsRequest(dataset_id=dataset_id, batch_id=batch.batch_id, documents=more)
        await call(client.reports.AddDocuments, add)
    if rest:
        seal = pb.SealBatchRequest(dataset_id=dataset_id, batch_id=batch.batch_id)
        batch = (await call(client.reports.SealBatch, seal)).batch
    return batch


async def work(
    client: Client,
    batch: r.Batch,
    sources: Sequence[Source],
    index: Index,
    *,
    workers: int = 3,
    delay_s: float = 0.0,
) -> None:
    """Ingest the documents of a batch, a few at a time; each ends as SUCCEEDED or FAILED.

    Raises:
        ExceptionGroup: of what ended a worker, such as `grpc.aio.AioRpcError`.
    """
    waiting = iter(sources)
    async with asyncio.TaskGroup() as group:
        for number in range(1, workers + 1):
            name = f"{socket.gethostname()}-{os.getpid()}-{number}"
            worker = Worker(client, batch, index, name=name, delay_s=delay_s)
            group.create_task(worker.run(waiting))


class Worker:
    """Takes one document after another through all stages.

    Args:
        name: who it is; the same in every call of this worker, and of no other.
        delay_s: a pause after each report, so that the eye can follow.
    """

    def __init__(
        self, client: Client, batch: r.Batch, index: Index, *, name: str, delay_s: float = 0.0
    ) -> None:
        self._client = client
        self._batch = batch
        self._index = index
        self._name = name
        self._delay_s = delay_s

    async def run(self, waiting: Iterator[Source]) -> None:
        """Ingest what is waiting, which other workers may share, until nothing is left."""
        for source in waiting:
            try:
                await self.ingest(source)
            except Dropped as reason:
                _log.warning("dropped %s: %s", source.document_id, reason)

    async def ingest(self, source: Source) -> None:
        """Take a document, do the work, and report each stage when it begins.

        Raises:
            Dropped: somebody else has taken or ended the document.
        """
        attempt = await self._take(source)
        heartbeats = asyncio.create_task(attempt.stay_alive())
        try:
            await attempt.enter(r.STAGE_PARSING)
            text = await asyncio.to_thread(_parse, source.path)
            await attempt.enter(r.STAGE_CLEANING)
            text = await asyncio.to_thread(_clean, text)
            await attempt.enter(r.STAGE_SPLITTING)
            chunks = await asyncio.to_thread(split, text)
            await attempt.enter(r.STAGE_INDEXING, r.Progress(total_segments=len(chunks)))
            await self._put_into_index(attempt, chunks)
            await attempt.enter(r.STAGE_COMPLETED)
        except IngestionError as error:
            await attempt.fail(error.reason, str(error))
        finally:
            heartbeats.cancel()

    async def _take(self, source: Source) -> Attempt:
        request = pb.StartAttemptRequest(
            dataset_id=self._batch.dataset_id,
            batch_id=self._batch.batch_id,
            document_id=source.document_id,
            worker=self._name,
        )
        taken = await call(self._client.reports.StartAttempt, request)
        beat_s = _beat_s(self._batch.stall_after.ToTimedelta().total_seconds())
        return Attempt(self._client, taken, beat_s=beat_s, delay_s=self._delay_s)

    async def _put_into_index(self, attempt: Attempt, chunks: Sequence[str]) -> None:
        step = -(-len(chunks) // _REPORTS_WHILE_INDEXING)
        for done in range(0, len(chunks), step):
            some = chunks[done : done + step]
            await self._index.add(attempt.document_id, done + 1, some)
            await attempt.count(r.Progress(completed_segments=done + len(some)))


class Attempt:
    """One attempt at one document: what a worker reports while it has it.

    Each report names the attempt. If another worker has taken the document over in the meantime, it
    is refused with FAILED_PRECONDITION / `STALE_ATTEMPT`; a heartbeat may tell so before that.
    """

    def __init__(
        self,
        client: Client,
        taken: pb.StartAttemptResponse,
        *,
        beat_s: float = _BEAT_S,
        delay_s: float = 0.0,
    ) -> None:
        self._client = client
        self._document = taken.document
        self._number = taken.attempt
        self._beat_s = beat_s
        self._delay_s = delay_s
        self._order = pb.WORKER_ORDER_GO_ON
        self._ordered = asyncio.Event()

    @property
    def document_id(self) -> str:
        """The document."""
        return self._document.document_id

    async def stay_alive(self) -> None:
        """Say now and then that the worker lives, and note what it is told, until cancelled."""
        beat = pb.HeartbeatDocument(document_id=self.document_id, attempt=self._number)
        request = pb.HeartbeatRequest(
            dataset_id=self._document.dataset_id,
            batch_id=self._document.batch_id,
            documents=[beat],
        )
        while True:
            await asyncio.sleep(self._beat_s)
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
        request = pb.ReportRequest(
            dataset_id=self._document.dataset_id,
            batch_id=self._document.batch_id,
            reports=[report],
        )
        try:
            await call(self._client.reports.Report, request)
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            raise Dropped(error.details()) from error
        await asyncio.sleep(self._delay_s)


async def call(
    rpc: aio.UnaryUnaryMultiCallable[Q, A], request: Q, *, patience_s: float = _PATIENCE_S
) -> A:
    """Make a call, and repeat it while the server is away: when it says, else ever more slowly.

    Raises:
        grpc.aio.AioRpcError: the call was refused, or the server did not come back in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    backoff = Backoff()
    while True:
        try:
            return await rpc(request, timeout=_CALL_S)
        except aio.AioRpcError as error:
            if error.code() not in _TRANSIENT or loop.time() >= deadline:
                raise
            advised = details_of(error).retry_after_s
        await backoff.wait(advised)


def _beat_s(stall_after_s: float) -> float:
    """Return how often to send heartbeats, so that a lost one does no harm; 0 never stalls."""
    return min(_BEAT_S, stall_after_s / 3) if stall_after_s else _BEAT_S


def _parse(path: Path) -> str:
    """Return the text of a file.

    Raises:
        IngestionError: it cannot be read, or is not UTF-8.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe may never end
            raise IngestionError("READ_ERROR", "not a regular file")
        data = path.read_bytes()
    except OSError as error:
        raise IngestionError("READ_ERROR", error.strerror or str(error)) from error
    try:
        return decode(data)
    except ValueError as error:
        raise IngestionError("DECODE_ERROR", str(error)) from error


def _clean(text: str) -> str:
    """Return the clean text.

    Raises:
        IngestionError: nothing is left of it.
    """
    cleaned = clean(text)
    if not cleaned:
        raise IngestionError("NO_TEXT", "there is no text in it")
    return cleaned


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now
