"""One run of the demo: a worker on a thread, a watch, and a server that dies in between."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from stagecast.client.api import BatchReporter, Client
from stagecast.demo.incidents import FAILS
from stagecast.demo.observer import Observer
from stagecast.demo.server import DemoServer
from stagecast.demo.worker import Interrupted, Worker
from stagecast.errors import NotDelivered
from stagecast.threads import call_on_loop, run_in_daemon
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb

Follow: TypeAlias = Callable[[pb.WatchBatchRequest], Awaitable[r.Batch]]

_INTERRUPT_S = 2.0  # for which a demo that is interrupted waits for its worker


class Ingestion:
    """Ingests the documents of a batch while it is watched.

    Args:
        batch: its documents; reports that cannot be delivered raise errors.
        worker: does the work.
        observer: of the watch; it also has the incidents that are staged, if any.
        client: of the server, to retry a document.
        server: to be killed and started again, if it is the demo's own.
        say: shows a line to people.
    """

    def __init__(
        self,
        batch: BatchReporter,
        worker: Worker,
        observer: Observer,
        client: Client,
        *,
        server: DemoServer | None,
        say: Callable[[str], None],
    ) -> None:
        self._batch = batch
        self._worker = worker
        self._observer = observer
        self._client = client
        self._server = server
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._submitted = asyncio.Event()
        self._has_restarted = threading.Event()

    async def run(self, follow: Follow) -> r.Batch:
        """Ingest, and return the batch at its end.

        Args:
            follow: shows the watch of a request until its end, and returns the batch.

        Raises:
            ExceptionGroup: of `StagecastError`, `StartError`, or what `follow` raises.
        """
        request = pb.WatchBatchRequest(dataset_id=self._batch.dataset_id, batch_id=self._batch.id)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work_in_thread())
            await self._submitted.wait()
            group.create_task(self._crash())
            return await follow(request)

    async def _crash(self) -> None:
        """Kill the server in the middle of the work, which goes on, and start it again."""
        if self._server:
            await self._observer.ready_for_crash.wait()
            await self._server.kill()
            self._say("the demo has killed its server, and starts it again")
            if self._observer.incidents:
                self._observer.incidents.stalled.set()
            await self._server.start_again()
            self._say("the server is back")
        self._has_restarted.set()

    async def _work_in_thread(self) -> None:
        working = asyncio.create_task(run_in_daemon(self._work))
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:
            self._worker.interrupt()
            if self._observer.incidents:
                self._observer.incidents.stalled.set()
            self._has_restarted.set()
            await asyncio.wait((working,), timeout=_INTERRUPT_S)
            working.cancel()
            raise

    def _work(self) -> None:
        try:
            self._ingest()
        except Interrupted:
            # While the server is still there: the end of the interpreter would wait for it.
            with contextlib.suppress(NotDelivered):
                self._batch.flush(_INTERRUPT_S / 2)
            raise

    def _ingest(self) -> None:
        with self._batch as batch:
            batch.flush()
            call_on_loop(self._loop, self._submitted.set)
            self._worker.ingest_all(batch)
            self._has_restarted.wait()  # or the batch could end before
            if self._observer.incidents:
                batch.flush()
                self._client.retry(batch.dataset_id, batch.id, FAILS)
                self._worker.ingest(batch.document(FAILS))
