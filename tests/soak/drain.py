"""SIGTERM under load: each call is finished and acknowledged, or has changed nothing."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from grpc import aio

from stagecast.client import Stubs
from stagecast.v1 import status_service_pb2 as s
from tests.process import ServerProcess
from tests.watches.pipeline import Pipeline, is_transient, retrying

_CALLS = 8  # at once
_BEFORE = 40  # calls are answered before the signal
_PAUSE_S = 0.02  # before a call is repeated


@contextlib.asynccontextmanager
async def stop_under_calls(server: ServerProcess, client: Stubs) -> AsyncIterator[None]:
    """Stop a server while it receives calls; the block starts it again.

    Raises:
        AssertionError: its exit code is not 0, or it changed something without acknowledging it.
    """
    pipeline = Pipeline(client, str(uuid.uuid4()))
    created = await retrying(lambda: pipeline.create(_CALLS, stall_after=Duration()))
    calling = _Calling(pipeline, server)
    async with asyncio.TaskGroup() as group:
        for document_id in pipeline.document_ids:
            group.create_task(calling.start_attempts(document_id))
        await pipeline.until_acknowledged(_BEFORE)
        calling.stopping = True
        assert await server.stop() == 0
        yield
    request = s.GetBatchRequest(dataset_id=pipeline.dataset_id, batch_id=pipeline.batch_id)
    batch = (await retrying(lambda: client.status.GetBatch(request))).batch
    acknowledged = [revision for revision, _, _ in pipeline.acknowledged]
    assert sorted(acknowledged) == list(range(created.revision + 1, batch.revision + 1))


@dataclass
class _Calling:
    """Calls to one server until it has ended."""

    pipeline: Pipeline
    server: ServerProcess
    stopping: bool = False

    async def start_attempts(self, document_id: str) -> None:
        """Start attempts at a document, each of which is a transition.

        A call that is refused while the server stops is not repeated.
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
