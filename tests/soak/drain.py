"""SIGTERM in the midst of calls: each is finished and acknowledged, or has changed nothing."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from grpc import aio

from stagecast.client import Client
from stagecast.v1 import status_service_pb2 as s
from tests.process import ServerProcess
from tests.watches.pipeline import Pipeline, is_transient, retrying

_CALLS = 8  # at once
_BEFORE = 40  # calls are answered before the signal
_PAUSE_S = 0.02  # before a call is repeated


@contextlib.asynccontextmanager
async def stop_under_calls(server: ServerProcess, client: Client) -> AsyncIterator[None]:
    """End a server cleanly while calls go to it; the block starts it again.

    Raises:
        AssertionError: it did not end well, or has done what it did not acknowledge.
    """
    pipeline = Pipeline(client, str(uuid.uuid4()))
    created = await retrying(lambda: pipeline.create(_CALLS, stall_after=Duration()))
    calling = _Calling(pipeline, server)
    async with asyncio.TaskGroup() as group:
        for document_id in pipeline.document_ids:
            group.create_task(calling.take_again_and_again(document_id))
        await pipeline.until_acknowledged(_BEFORE)
        calling.stopping = True
        assert await server.stop() == 0
        yield
    request = s.GetBatchRequest(dataset_id=pipeline.dataset_id, batch_id=pipeline.batch_id)
    batch = (await retrying(lambda: client.status.GetBatch(request))).batch
    done = [revision for revision, _, _ in pipeline.acknowledged]
    assert sorted(done) == list(range(created.revision + 1, batch.revision + 1))


@dataclass
class _Calling:
    """Calls of one server until it has ended."""

    pipeline: Pipeline
    server: ServerProcess
    stopping: bool = False

    async def take_again_and_again(self, document_id: str) -> None:
        """Take a document: each time is a new attempt, and a transition.

        What is refused while the server stops is not asked for again.
        """
        number = 1
        while self.server.process.returncode is None:
            try:
                await self.pipeline.start(document_id, f"worker-{number}")
                number += 1
            except aio.AioRpcError as error:
                if not is_transient(error):
                    raise
                if self.stopping:
                    return
                await asyncio.sleep(_PAUSE_S)
