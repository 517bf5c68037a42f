"""A small ingestion worker: the example of how a pipeline reports to stagecast.

Submit a batch; start an attempt at a document; report its stages, its progress and how it ends.
Every call is safe to retry after a lost response. Meanwhile heartbeats are sent and the orders that
answer them are followed.
Of stagecast this needs only the client and the protobuf messages; `stages` and `text` are the
pipeline's own work.
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
from typing import IO, Protocol

from stagecast.client import Stubs
from stagecast.client.attempt import Attempt, Dropped, start
from stagecast.client.retry import call
from stagecast.demo import stages
from stagecast.demo.stages import IngestionError, scratch
from stagecast.escaping import quote
from stagecast.failures import reason_of
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r

_DATASET_NAME = "stagecast demo"
_DOCUMENTS_A_CALL = 1_000
_REPORTS_WHILE_INDEXING = 10  # enough to move a progress bar, few enough for a large document
_MIN_STEP = 2  # chunks between two reports; a short file is not worth more calls
_CHUNKS_A_CALL = 500  # of the index

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A file to ingest, with its id and name."""

    document_id: str
    display_name: str
    path: Path


class Index(Protocol):
    """Stores chunks."""

    async def add(self, document_id: str, first: int, chunks: Sequence[str]) -> None:
        """Put chunks into the index, numbered from `first`, or raise `IngestionError`."""


async def submit(client: Stubs, dataset_id: str, sources: Sequence[Source]) -> r.Batch:
    """Create a batch of the documents, in several calls if necessary, and return it.

    Raises:
        grpc.aio.AioRpcError: the server is unavailable, or refused.
    """
    calls = range(0, len(sources), _DOCUMENTS_A_CALL)
    first, *rest = [sources[start : start + _DOCUMENTS_A_CALL] for start in calls]
    create = pb.CreateBatchRequest(
        dataset_id=dataset_id,
        documents=map(_new_document, first),
        dataset_name=_DATASET_NAME,
        more_documents_follow=bool(rest),
        request_id=str(uuid.uuid4()),  # makes the call safe to retry
    )
    batch = (await call(client.reports.CreateBatch, create, timeout_s=0)).batch
    for more in rest:
        add = pb.AddDocumentsRequest(
            dataset_id=dataset_id, batch_id=batch.batch_id, documents=map(_new_document, more)
        )
        await call(client.reports.AddDocuments, add)
    if rest:
        seal = pb.SealBatchRequest(dataset_id=dataset_id, batch_id=batch.batch_id)
        batch = (await call(client.reports.SealBatch, seal)).batch
    return batch


def _new_document(source: Source) -> pb.NewDocument:
    return pb.NewDocument(document_id=source.document_id, display_name=source.display_name)


async def work(
    client: Stubs,
    batch: r.Batch,
    sources: Sequence[Source],
    index: Index,
    *,
    workers: int = 16,
    delay_s: float = 0.0,
) -> None:
    """Ingest the documents of a batch with several workers; each ends as SUCCEEDED or FAILED.

    Raises:
        ExceptionGroup: of the errors that ended workers, such as `grpc.aio.AioRpcError`.
    """
    waiting = iter(sources)
    async with asyncio.TaskGroup() as group:
        for number in range(1, workers + 1):
            name = f"{socket.gethostname()}-{os.getpid()}-{number}"
            worker = Worker(client, batch, index, name=name, delay_s=delay_s)
            group.create_task(worker.run(waiting))


class Worker:
    """Processes one document after another.

    Args:
        name: identifies the worker; unique.
        delay_s: a pause after each report, so that a viewer can follow.
    """

    def __init__(
        self, client: Stubs, batch: r.Batch, index: Index, *, name: str, delay_s: float = 0.0
    ) -> None:
        self._client = client
        self._batch = batch
        self._index = index
        self._name = name
        self._delay_s = delay_s

    async def run(self, waiting: Iterator[Source]) -> None:
        """Ingest sources from an iterator, which workers may share, until it is exhausted."""
        for source in waiting:
            try:
                await self.ingest(source)
            except Dropped as reason:
                _log.warning("dropped %s: %s", quote(source.document_id), reason)

    async def ingest(self, source: Source) -> None:
        """Process a document, and report each stage when it begins.

        Raises:
            Dropped: the document was taken over, stopped or ended by others.
        """
        async with start(
            self._client,
            self._batch,
            source.document_id,
            worker=self._name,
            delay_s=self._delay_s,
        ) as attempt:
            try:
                await self._process(attempt, source.path)
            except IngestionError as error:
                await attempt.fail(error.reason, str(error))
            except OSError as error:  # such as a full disk
                await attempt.fail("TEMPORARY_FILE_ERROR", reason_of(error))

    async def _process(self, attempt: Attempt, path: Path) -> None:
        with scratch() as parsed, scratch() as cleaned, scratch() as chunks:
            await attempt.enter(r.STAGE_PARSING)
            await asyncio.to_thread(stages.parse, path, parsed)
            await attempt.enter(r.STAGE_CLEANING)
            await asyncio.to_thread(stages.clean, parsed, cleaned)
            parsed.close()
            await attempt.enter(r.STAGE_SPLITTING)
            total = await asyncio.to_thread(stages.split, cleaned, chunks)
            cleaned.close()
            await attempt.enter(r.STAGE_INDEXING, r.Progress(total_segments=total))
            await self._put_into_index(attempt, chunks, total)
            await attempt.enter(r.STAGE_COMPLETED)

    async def _put_into_index(self, attempt: Attempt, chunks: IO[str], total: int) -> None:
        step = max(_MIN_STEP, -(-total // _REPORTS_WHILE_INDEXING))
        done = reported = 0
        while some := stages.next_chunks(chunks, min(step, _CHUNKS_A_CALL)):
            await self._index.add(attempt.document_id, done + 1, some)
            done += len(some)
            if done - reported >= step or done == total:
                await attempt.count(r.Progress(completed_segments=done))
                reported = done
