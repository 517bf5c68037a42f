"""A worker does what its heartbeats are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from stagecast.cli.attempt import Attempt, Dropped
from stagecast.client import Client
from stagecast.v1 import control_service_pb2 as cs
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s


@pytest.fixture
async def attempt(client: Client, dataset_id: str) -> AsyncIterator[Attempt]:
    """An attempt that hears very soon what it is ordered."""
    request = pb.CreateBatchRequest(
        dataset_id=dataset_id, documents=[pb.NewDocument(document_id="a")]
    )
    batch = (await client.reports.CreateBatch(request)).batch
    taken = await client.reports.StartAttempt(
        pb.StartAttemptRequest(
            dataset_id=dataset_id, batch_id=batch.batch_id, document_id="a", worker="w1"
        )
    )
    attempt = Attempt(client, taken, beat_s=0.001)
    heartbeats = asyncio.create_task(attempt.stay_alive())
    yield attempt
    heartbeats.cancel()


async def ordered(attempt: Attempt, order: pb.WorkerOrder.ValueType) -> None:
    async with asyncio.timeout(30):
        while attempt._order != order:
            await attempt._ordered.wait()
            attempt._ordered.clear()


async def test_a_paused_worker_holds_until_it_is_resumed(client: Client, attempt: Attempt) -> None:
    names = {
        "dataset_id": attempt._document.dataset_id,
        "batch_id": attempt._document.batch_id,
        "document_id": "a",
    }
    await client.controls.Pause(cs.PauseRequest(**names))
    await ordered(attempt, pb.WORKER_ORDER_PAUSE)
    entering = asyncio.create_task(attempt.enter(r.STAGE_PARSING))
    for _ in range(20):
        document = (await client.status.GetDocument(s.GetDocumentRequest(**names))).document
    assert document.stage == r.STAGE_WAITING
    assert not entering.done()
    await client.controls.Resume(cs.ResumeRequest(**names))
    async with asyncio.timeout(30):
        await entering
    document = (await client.status.GetDocument(s.GetDocumentRequest(**names))).document
    assert document.stage == r.STAGE_PARSING


async def test_a_worker_drops_what_a_heartbeat_tells_it_to(
    client: Client, attempt: Attempt
) -> None:
    await client.controls.Stop(
        cs.StopRequest(dataset_id=attempt._document.dataset_id, batch_id=attempt._document.batch_id)
    )
    await ordered(attempt, pb.WORKER_ORDER_STOP)
    with pytest.raises(Dropped, match="answered WORKER_ORDER_STOP"):
        await attempt.enter(r.STAGE_PARSING)
