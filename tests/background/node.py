"""Processes on one file, without servers: a store, reports, heartbeats and a stall detector.

Time passes only when a test says so, and every process scans once in each second of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from stagecast.background.stall_detector import StallDetector
from stagecast.errors import StoreBusy
from stagecast.model import (
    ALL,
    BatchEdit,
    Document,
    HeartbeatItem,
    Progress,
    Report,
    ReportOutcome,
    Stage,
    Timer,
    TransitionKind,
    Visibility,
    WorkerOrder,
)
from stagecast.service.controls import Controls
from stagecast.service.heartbeats import Heartbeats
from stagecast.service.reports import Reports
from stagecast.service.submissions import Submissions
from stagecast.store import (
    BatchName,
    Lease,
    ReadTransaction,
    Wanted,
    WriteTransaction,
    get_batch,
)
from stagecast.store.sqlite import SqliteStore
from tests.builders import DATASET_ID, ENCODER, ERROR, new_batch
from tests.clock import Clock

T = TypeVar("T")

BATCH = "b1"
SECOND_US = 1_000_000


class FaultyStore(SqliteStore):
    """A store with injected faults.

    Attributes:
        writes: the number of attempted writes.
        unblocked: writes wait until it is set.
        waiting: set by a write that waits.
        broken: whether writes fail.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(
            path,
            clock=clock,
            encoder=ENCODER,
            on_commit=lambda _: None,
            on_foreign_commit=lambda: None,
        )
        self.writes = 0
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.waiting = asyncio.Event()
        self.broken = False

    async def write(self, call: Callable[[WriteTransaction], T], *, visible: Visibility) -> T:
        await self._try()
        return await super().write(call, visible=visible)

    async def change(
        self,
        name: BatchName,
        wanted: Wanted,
        decide: Callable[[BatchEdit], T],
        *,
        visible: Visibility,
    ) -> T:
        await self._try()
        return await super().change(name, wanted, decide, visible=visible)

    async def _try(self) -> None:
        self.writes += 1
        if not self.unblocked.is_set():
            self.waiting.set()
        await self.unblocked.wait()
        if self.broken:
            raise StoreBusy("the disk is full", retry_after_s=0.01)


class Node:
    """One process on a file."""

    def __init__(self, store: FaultyStore, clock: Clock) -> None:
        self.store = store
        self.submissions = Submissions(store)
        self.reports = Reports(store)
        self.controls = Controls(store)
        self.heartbeats = Heartbeats(store, clock=clock)
        self.detector = StallDetector(store, clock=clock, monotonic=clock.monotonic, every_s=1.0)

    async def create(
        self,
        *documents: str,
        stall_after_s: float,
        fail_after_s: float = 0,
        start_after_s: float = 0,
        seal_after_s: float = 0,
        more_documents_follow: bool = False,
        batch_id: str = BATCH,
    ) -> None:
        """Create a batch of documents."""
        new = new_batch(
            *documents,
            batch_id=batch_id,
            more_documents_follow=more_documents_follow,
            start_after_us=round(start_after_s * SECOND_US),
            stall_after_us=round(stall_after_s * SECOND_US),
            fail_after_us=round(fail_after_s * SECOND_US),
            seal_after_us=round(seal_after_s * SECOND_US),
        )
        await self.submissions.create_batch(new, visible=ALL)

    async def start(self, *documents: str, worker: str = "w1", batch_id: str = BATCH) -> None:
        """Start attempts at documents for a worker."""
        for document_id in documents:
            await self.reports.start_attempt(DATASET_ID, batch_id, document_id, worker, visible=ALL)

    async def report(
        self,
        document_id: str,
        stage: Stage | None = None,
        *,
        completed: int | None = None,
        batch_id: str = BATCH,
    ) -> ReportOutcome:
        """Report a stage or a counter."""
        progress = None if completed is None else Progress(completed_segments=completed)
        report = Report(document_id=document_id, stage=stage, progress=progress)
        return (
            (await self.reports.report(DATASET_ID, batch_id, [report], visible=ALL))
            .results[0]
            .outcome
        )

    async def fail(self, document_id: str) -> None:
        """Report an error."""
        report = Report(document_id=document_id, error=ERROR)
        await self.reports.report(DATASET_ID, BATCH, [report], visible=ALL)

    async def heartbeat(
        self, *documents: str, attempt: int = 0, batch_id: str = BATCH
    ) -> list[WorkerOrder]:
        """Send a heartbeat and write it."""
        heartbeats = [
            HeartbeatItem(document_id=document_id, attempt=attempt) for document_id in documents
        ]
        orders = await self.heartbeats.record(DATASET_ID, batch_id, heartbeats, visible=ALL)
        await self.heartbeats.flush()
        return list(orders)

    async def document(self, document_id: str, batch_id: str = BATCH) -> Document:
        """Return a document."""
        return await self.store.read(
            lambda tx: tx.find_documents(get_batch(tx, DATASET_ID, batch_id), [document_id])[
                document_id
            ],
            visible=ALL,
        )

    async def timers(self) -> Sequence[Timer]:
        """Return all timers."""
        return await self.store.write(
            lambda tx: tx.find_timers(until=None, after=None, limit=1_000_000), visible=ALL
        )

    async def lease(self) -> Lease:
        """Return the lease of the stall detector."""
        return await self.store.read(lambda tx: tx.find_lease(), visible=ALL)

    async def kinds(self, document_id: str, batch_id: str = BATCH) -> list[str]:
        """Return the kinds of the transitions of a document."""

        def query(tx: ReadTransaction) -> list[str]:
            batch = get_batch(tx, DATASET_ID, batch_id)
            document = tx.find_documents(batch, [document_id])[document_id]
            log = tx.iterate_transitions(batch, after_revision=0, document=document)
            return [TransitionKind(entry.kind).name for entry in log]

        return await self.store.read(query, visible=ALL)


@contextlib.asynccontextmanager
async def open_node(path: Path, clock: Clock) -> AsyncIterator[Node]:
    """Run a process within the block; at the end it dies without releasing its lease."""
    store = FaultyStore(path, clock)
    try:
        yield Node(store, clock)
    finally:
        await store.close()


async def live(clock: Clock, seconds: float, nodes: Iterable[Node]) -> None:
    """Let time pass while the processes scan."""
    nodes = list(nodes)
    while seconds > 0:
        clock.pass_time(min(1.0, seconds))
        seconds -= 1.0
        for node in nodes:
            await node.detector.scan()
