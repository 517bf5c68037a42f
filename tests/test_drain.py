"""SIGTERM under load: every call is finished or told why not, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
from grpc import aio

from stagecast.client import Client, details_of
from stagecast.v1 import status_service_pb2 as s
from tests.process import running
from tests.watches.pipeline import Pipeline


async def test_sigterm_under_load_finishes_or_refuses_every_call_with_a_reason(
    tmp_path: Path, dataset_id: str
) -> None:
    db = tmp_path / "stagecast.db"
    async with running(db) as server, Client(server.grpc) as client:
        pipeline = Pipeline(client, dataset_id)
        await pipeline.create(30)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            reporting = [
                group.create_task(_report_until_refused(pipeline, document_id))
                for document_id in pipeline.document_ids
            ]
            watching = group.create_task(_watch_until_refused(pipeline))
            await pipeline.until_acknowledged(300)
            assert await server.stop() == 0
    errors = [task.result() for task in (*reporting, watching)]
    assert {error.code() for error in errors} == {grpc.StatusCode.UNAVAILABLE}
    reasons = [details_of(error).reason for error in errors]
    # Whoever comes when the port is closed already hears that from its own side.
    assert reasons.count("DRAINING") > len(reasons) / 2, reasons
    assert details_of(watching.result()).reason == "DRAINING"
    assert "Traceback" not in Path(f"{db}.log").read_text()
    async with running(db) as again, Client(again.grpc) as client:
        batch = await client.status.GetBatch(
            s.GetBatchRequest(dataset_id=dataset_id, batch_id=pipeline.batch_id)
        )
    assert batch.batch.revision == max(revision for revision, _, _ in pipeline.acknowledged)


async def _report_until_refused(pipeline: Pipeline, document_id: str) -> aio.AioRpcError:
    """Take the document again and again: each time is a new attempt, and a transition."""
    number = 0
    while True:
        number += 1
        try:
            await pipeline.start(document_id, f"worker-{number}")
        except aio.AioRpcError as error:
            return error


async def _watch_until_refused(pipeline: Pipeline) -> aio.AioRpcError:
    try:
        await pipeline.record()
    except aio.AioRpcError as error:
        return error
    raise AssertionError("the batch has not ended")
