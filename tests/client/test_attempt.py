"""A worker follows the orders that answer its heartbeats, and does not wait for its reports."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from grpc import aio

from stagecast.client import Stubs
from stagecast.client.attempt import Attempt, Dropped, start
from stagecast.v1 import control_service_pb2 as cs
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import report_service_pb2_grpc
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s


@pytest.fixture
async def attempt(client: Stubs, dataset_id: str) -> AsyncIterator[Attempt]:
    """An attempt with very frequent heartbeats."""
    request = pb.CreateBatchRequest(
        dataset_id=dataset_id, documents=[pb.NewDocument(document_id="a")]
    )
    batch = (await client.reports.CreateBatch(request)).batch
    started = await client.reports.StartAttempt(
        pb.StartAttemptRequest(
            dataset_id=dataset_id, batch_id=batch.batch_id, document_id="a", worker="w1"
        )
    )
    attempt = Attempt(client, started, heartbeat_s=0.001)
    heartbeats = asyncio.create_task(attempt.send_heartbeats())
    yield attempt
    heartbeats.cancel()


async def wait_for_order(attempt: Attempt, order: pb.WorkerOrder.ValueType) -> None:
    async with asyncio.timeout(60):
        while attempt._order != order:
            await attempt._order_received.wait()
            attempt._order_received.clear()


async def test_paused_worker_waits_until_it_is_resumed(client: Stubs, attempt: Attempt) -> None:
    names = {
        "dataset_id": attempt._document.dataset_id,
        "batch_id": attempt._document.batch_id,
        "document_id": "a",
    }
    await client.controls.Pause(cs.PauseRequest(**names))
    await wait_for_order(attempt, pb.WORKER_ORDER_PAUSE)
    entering = asyncio.create_task(attempt.enter(r.STAGE_PARSING))
    for _ in range(20):
        document = (await client.status.GetDocument(s.GetDocumentRequest(**names))).document
    assert document.stage == r.STAGE_WAITING
    assert not entering.done()
    await client.controls.Resume(cs.ResumeRequest(**names))
    async with asyncio.timeout(60):
        await entering
        await attempt.flush()
    document = (await client.status.GetDocument(s.GetDocumentRequest(**names))).document
    assert document.stage == r.STAGE_PARSING


async def test_worker_drops_a_document_when_a_heartbeat_orders_it(
    client: Stubs, attempt: Attempt
) -> None:
    await client.controls.Stop(
        cs.StopRequest(dataset_id=attempt._document.dataset_id, batch_id=attempt._document.batch_id)
    )
    await wait_for_order(attempt, pb.WORKER_ORDER_STOP)
    with pytest.raises(Dropped, match="heartbeat with WORKER_ORDER_STOP"):
        await attempt.enter(r.STAGE_PARSING)


class SlowServer(report_service_pb2_grpc.ReportServiceServicer):
    """A server that answers reports only when allowed."""

    def __init__(self) -> None:
        self.reported: list[list[r.Stage.ValueType]] = []
        self.reached = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def StartAttempt(  # noqa: N802 - the proto's name
        self, request: pb.StartAttemptRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.StartAttemptResponse:
        return pb.StartAttemptResponse(attempt=1, document=r.Document(document_id="a"))

    async def Report(  # noqa: N802 - the proto's name
        self, request: pb.ReportRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.ReportResponse:
        self.reported.append([report.stage for report in request.reports])
        self.reached.set()
        await self.may_answer.wait()
        return pb.ReportResponse()


@pytest.fixture
async def slow_server() -> AsyncIterator[tuple[SlowServer, Stubs]]:
    servicer = SlowServer()  # type: ignore[abstract]  # in its stub; others are UNIMPLEMENTED
    server = aio.server()
    report_service_pb2_grpc.add_ReportServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Stubs(f"127.0.0.1:{port}") as client:
        yield servicer, client
    await server.stop(0)


async def test_reports_made_during_a_call_are_sent_together_in_the_next(
    slow_server: tuple[SlowServer, Stubs],
) -> None:
    servicer, client = slow_server
    later = [r.STAGE_CLEANING, r.STAGE_SPLITTING, r.STAGE_INDEXING, r.STAGE_COMPLETED]
    async with asyncio.timeout(30):
        async with start(client, r.Batch(), "a", worker="w") as attempt:
            await attempt.enter(r.STAGE_PARSING)
            await servicer.reached.wait()
            for stage in later:
                await attempt.enter(stage)
            servicer.may_answer.set()
        assert servicer.reported == [[r.STAGE_PARSING], later]


async def test_nothing_is_sent_after_an_interrupted_block(
    slow_server: tuple[SlowServer, Stubs],
) -> None:
    servicer, client = slow_server

    async def work() -> None:
        async with start(client, r.Batch(), "a", worker="w") as attempt:
            await attempt.enter(r.STAGE_PARSING)
            await servicer.reached.wait()
            await attempt.enter(r.STAGE_CLEANING)
            raise InterruptedError

    async with asyncio.timeout(30):
        with contextlib.suppress(InterruptedError):
            await work()
        servicer.may_answer.set()
        async with start(client, r.Batch(), "a", worker="w") as attempt:
            await attempt.enter(r.STAGE_INDEXING)
    assert servicer.reported == [[r.STAGE_PARSING], [r.STAGE_INDEXING]]


@pytest.mark.parametrize("counters", [[1], itertools.count()], ids=["one", "endless"])
async def test_refused_report_ends_the_work(
    client: Stubs, dataset_id: str, counters: Iterable[int]
) -> None:
    """At the next report, or without another one, at the end of the block."""
    request = pb.CreateBatchRequest(
        dataset_id=dataset_id, documents=[pb.NewDocument(document_id="a")]
    )
    batch = (await client.reports.CreateBatch(request)).batch

    async def work() -> None:
        async with start(client, batch, "a", worker="w1") as attempt:
            async with start(client, batch, "a", worker="w2"):
                pass
            for completed in counters:
                await attempt.count(r.Progress(completed_segments=completed))

    async with asyncio.timeout(30):
        with pytest.raises(Dropped, match="attempt"):
            await work()
