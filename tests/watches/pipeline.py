"""Helpers of the watch tests: batches, reports at full speed, recording watchers."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from stagecast.client import Stubs, details_of
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.validator import WatchRecord

T = TypeVar("T")

_PAUSE_S = 0.02  # before a call is repeated

STAGES = (
    r.STAGE_PARSING,
    r.STAGE_CLEANING,
    r.STAGE_SPLITTING,
    r.STAGE_INDEXING,
    r.STAGE_COMPLETED,
)


@dataclass
class Pipeline:
    """One batch and its acknowledged reports.

    Attributes:
        calls: the revisions of each acknowledged call that made more than one.
        acknowledged: the revision, document and stage of each applied report.
    """

    client: Stubs
    dataset_id: str
    batch_id: str = ""
    document_ids: list[str] = field(default_factory=list)
    calls: list[range] = field(default_factory=list)
    acknowledged: list[tuple[int, str, r.Stage.ValueType]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def create(self, documents: int, **fields: Any) -> r.Batch:
        """Create the batch with this number of documents."""
        response = await self.client.reports.CreateBatch(
            pb.CreateBatchRequest(
                dataset_id=self.dataset_id,
                documents=[pb.NewDocument(document_id=f"doc-{n}") for n in range(documents)],
                **fields,
            )
        )
        self.batch_id = response.batch.batch_id
        self.document_ids = list(response.document_ids)
        return response.batch

    async def report(self, *reports: pb.DocumentReport, **fields: Any) -> pb.ReportResponse:
        """Report and record the acknowledged results."""
        request = pb.ReportRequest(
            dataset_id=self.dataset_id, batch_id=self.batch_id, reports=reports, **fields
        )
        response = await self.client.reports.Report(request, wait_for_ready=True)
        revisions = []
        for report, result in zip(reports, response.results, strict=True):
            if result.outcome == pb.REPORT_OUTCOME_APPLIED and report.stage:
                revisions.append(result.revision)
                self.acknowledged.append((result.revision, result.document_id, report.stage))
        if len(revisions) > 1:
            self.calls.append(range(min(revisions), max(revisions) + 1))
        self._news.set()
        return response

    async def count(self, document_id: str, completed: int, total: int) -> pb.ReportResponse:
        """Report counters of one document."""
        progress = r.Progress(completed_segments=completed, total_segments=total)
        return await self.report(pb.DocumentReport(document_id=document_id, progress=progress))

    async def until_acknowledged(self, reports: int) -> None:
        """Wait until this number of reports is acknowledged."""
        while len(self.acknowledged) < reports:
            self._news.clear()
            await self._news.wait()

    async def stage(self, stage: r.Stage.ValueType, *document_ids: str) -> pb.ReportResponse:
        """Report one stage of some documents, or of all."""
        return await self.report(
            *(
                pb.DocumentReport(document_id=d, stage=stage)
                for d in document_ids or self.document_ids
            )
        )

    async def run(self, rng: random.Random, *, workers: int = 4) -> None:
        """Process all documents at full speed, in calls of all sizes.

        Each worker has its own documents; some of those fail in a second attempt. Some stages come
        with counters. The batch is sealed last, so that it ends only then.
        """
        shares = [self.document_ids[n::workers] for n in range(workers)]
        async with asyncio.TaskGroup() as group:
            for share in shares:
                group.create_task(self.work(share, random.Random(rng.random())))
        await self.seal()

    async def seal(self) -> None:
        """Seal the batch."""
        request = pb.SealBatchRequest(dataset_id=self.dataset_id, batch_id=self.batch_id)
        await retrying(lambda: self.client.reports.SealBatch(request, wait_for_ready=True))

    async def work(self, share: list[str], rng: random.Random) -> None:
        """Process some of the documents."""
        for some in _cut(share, rng):
            for stage in STAGES:
                reports = [_report(document_id, stage, rng) for document_id in some]
                await self._report_until_known(reports)
                in_step = [_in_step(d, stage, rng) for d in some if rng.random() < 0.3]
                if in_step:
                    await self._report_until_known(in_step)
            failing = [d for d in some if rng.random() < 0.1]
            if failing:
                await self._start_again(failing)

    async def start(self, document_id: str, worker: str, **fields: Any) -> pb.StartAttemptResponse:
        """Start an attempt at a document for a worker."""
        response = await self.client.reports.StartAttempt(
            pb.StartAttemptRequest(
                dataset_id=self.dataset_id,
                batch_id=self.batch_id,
                document_id=document_id,
                worker=worker,
                **fields,
            ),
            wait_for_ready=True,
        )
        self.acknowledged.append((response.document.revision, document_id, r.STAGE_WAITING))
        self._news.set()
        return response

    async def _start_again(self, document_ids: list[str]) -> None:
        """Start another attempt at ended documents, which fails."""
        for document_id in document_ids:
            await retrying(partial(self.start, document_id, "second"))
        error = r.DocumentError(reason="PARSE_ERROR", message="bad page")
        await self._report_until_known(
            [pb.DocumentReport(document_id=d, error=error) for d in document_ids]
        )

    async def _report_until_known(self, reports: list[pb.DocumentReport]) -> None:
        await retrying(lambda: self.report(*reports))

    def watch_request(self, **fields: Any) -> s.WatchBatchRequest:
        """Return a request to watch the batch.

        Its heartbeats are rarer than any deadline of a test, so that they never hide a lost
        notification.
        """
        return s.WatchBatchRequest(
            **{"heartbeat_interval": Duration(seconds=300)} | fields,
            dataset_id=self.dataset_id,
            batch_id=self.batch_id,
        )

    @contextlib.asynccontextmanager
    async def stream(self, **fields: Any) -> AsyncIterator[Stream]:
        """Open a watch to be read message by message."""
        call = self.client.status.WatchBatch(self.watch_request(**fields))
        try:
            yield Stream(call)
        finally:
            call.cancel()

    async def record(self, **fields: Any) -> WatchRecord:
        """Watch to the end and return the record."""
        record = WatchRecord()
        async with asyncio.timeout(600):
            async for message in self.client.status.WatchBatch(self.watch_request(**fields)):
                record.receive(message)
        return record

    async def documents(self) -> dict[str, r.Document]:
        """Return all documents by `ListDocuments`."""
        actual: dict[str, r.Document] = {}
        token = ""
        while True:
            request = s.ListDocumentsRequest(
                dataset_id=self.dataset_id,
                batch_id=self.batch_id,
                page_size=1_000,
                page_token=token,
            )
            # The connection may be to a process that was just killed.
            page = await retrying(partial(self.client.status.ListDocuments, request))
            actual |= {document.document_id: document for document in page.documents}
            token = page.next_page_token
            if not token:
                return actual


class Stream:
    """One stream of a watch, read message by message with a deadline."""

    def __init__(
        self, call: aio.UnaryStreamCall[s.WatchBatchRequest, s.WatchBatchResponse]
    ) -> None:
        self.call = call

    async def read(self) -> s.WatchBatchResponse:
        """Return the next message."""
        async with asyncio.timeout(600):
            message = await self.call.read()
        assert isinstance(message, s.WatchBatchResponse), "the stream has ended"
        return message

    async def read_transitions(self) -> s.WatchBatchResponse:
        """Return the next message with transitions; a heartbeat may come before it."""
        while not (message := await self.read()).transitions:
            pass
        return message

    async def read_to_revision(self, revision: int) -> list[s.WatchBatchResponse]:
        """Return the messages up to a revision."""
        messages = [await self.read()]
        while messages[-1].revision < revision or not messages[-1].resume_token:
            messages.append(await self.read())
        return messages

    async def read_answer(self) -> s.WatchBatchResponse:
        """Return the next message with content from the store.

        A resumed watch starts with a heartbeat if the read takes a moment.
        """
        while True:
            message = await self.read()
            if message.HasField("batch") or message.HasField("snapshot") or message.transitions:
                return message

    async def end(self) -> grpc.StatusCode:
        """Read the rest and return the status."""
        async with asyncio.timeout(600):
            return await self.call.code()

    async def error(self) -> aio.AioRpcError:
        """Read to the end and return the error."""
        async with asyncio.timeout(600):
            try:
                while True:
                    await self.read()
            except aio.AioRpcError as error:
                return error


class Hangups:
    """Distributes a number of hang-ups; a stream may break before its hang-up.

    `chance` is the probability that a stream is hung up.
    """

    def __init__(self, limit: int, rng: random.Random, *, chance: float = 1.0) -> None:
        self._maximum = limit
        self._chance = chance
        self._rng = rng
        self.done = 0

    def next(self) -> int | None:
        """Return the number of messages before a stream is hung up, `None` for no hang-up."""
        if self.done >= self._maximum or self._rng.random() > self._chance:
            return None
        return self._rng.randrange(1, 8)


async def watch_with_hangups(pipeline: Pipeline, record: WatchRecord, hangups: Hangups) -> None:
    """Watch to the end; hang up at random, and resume after every break."""
    while True:
        call = pipeline.client.status.WatchBatch(
            pipeline.watch_request(resume_token=record.resume_token), wait_for_ready=True
        )
        remaining = hangups.next()
        try:
            async for message in call:
                record.receive(message)
                if remaining is not None and (remaining := remaining - 1) == 0:
                    hangups.done += 1
                    call.cancel()
            return
        except asyncio.CancelledError:
            if remaining != 0:  # the test itself was cancelled
                raise
        except aio.AioRpcError as error:
            if not is_transient(error):
                raise
        record.hang_up()


def check_all(
    records: Sequence[WatchRecord],
    pipeline: Pipeline,
    stored: dict[str, r.Document],
    *,
    snapshots: int = 1,
) -> None:
    """Compare received messages with acknowledged reports and stored documents."""
    for record in records:
        assert record.snapshots == snapshots, "a resumed watch gets no second snapshot"
        assert record.documents == stored
        check_steps(record)
        assert record.batch is not None
        assert record.batch.state in (
            r.BATCH_STATE_SUCCEEDED,
            r.BATCH_STATE_PARTIALLY_SUCCEEDED,
        )
        record.check_atomic(pipeline.calls)
        for revision, document_id, stage in pipeline.acknowledged:
            if revision > record.began:
                document = record.transitions[revision].document
                assert (document.document_id, document.stage) == (document_id, stage)
    history = max((record.transitions for record in records), key=len)
    for record in records:
        assert record.transitions.items() <= history.items(), "all watchers see one history"


def check_steps(record: WatchRecord) -> None:
    """Check that each step was received in its stage only: it has the name of the stage."""
    moved = (transition.document for transition in record.transitions.values())
    for document in (*moved, *record.documents.values()):
        if document.progress.HasField("step"):
            assert document.progress.step.name == _step_of(document.stage)


async def retrying(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call until it succeeds; the server may be down in between."""
    while True:
        try:
            return await call()
        except aio.AioRpcError as error:
            if not is_transient(error):
                raise
        await asyncio.sleep(_PAUSE_S)


def is_transient(error: aio.AioRpcError) -> bool:
    """Return whether to try again, as `Client.watch` does.

    A draining server may have no time to give a reason in its last moment.
    """
    again = details_of(error).retry_after_s is not None
    return again or error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def _cut(documents: list[str], rng: random.Random) -> Iterator[list[str]]:
    position = 0
    while position < len(documents):
        size = rng.choice((1, 1, 2, 5, 20))
        yield documents[position : position + size]
        position += size


def _report(document_id: str, stage: r.Stage.ValueType, rng: random.Random) -> pb.DocumentReport:
    report = pb.DocumentReport(document_id=document_id, stage=stage)
    if stage >= r.STAGE_SPLITTING and rng.random() < 0.5:
        report.progress.total_segments = 100
        report.progress.completed_segments = 10 * (stage - r.STAGE_PARSING)
    if rng.random() < 0.3:
        report.progress.step.name = _step_of(stage)
    return report


def _in_step(document_id: str, stage: r.Stage.ValueType, rng: random.Random) -> pb.DocumentReport:
    """Return a report within a stage that the document is in."""
    step = r.Step(name=_step_of(stage), completed=rng.randrange(10), total=9)
    return pb.DocumentReport(document_id=document_id, progress=r.Progress(step=step))


def _step_of(stage: r.Stage.ValueType) -> str:
    return f"step of {r.Stage.Name(stage)}"
