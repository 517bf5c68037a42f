"""Stopped readers: their calls end with an error and do not affect others."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import aio

from stagecast.app import App
from stagecast.client import Stubs, details_of
from stagecast.config import Config
from stagecast.rpc import pipeline as pipeline_of_rpc
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from stagecast.v1.status_service_pb2_grpc import StatusServiceStub
from tests.clock import Clock
from tests.conditions import until, with_more_time
from tests.grpc_calls import read
from tests.watches.pipeline import Pipeline

if TYPE_CHECKING:  # the class exists in the stubs only
    from stagecast.v1.status_service_pb2_grpc import StatusServiceAsyncStub

# By default, clients read megabytes ahead.
NO_READ_AHEAD = [("grpc.http2.bdp_probe", 0)]


@pytest.fixture
def config(config: Config) -> Config:
    """A server with a short timeout for slow readers."""
    return dataclasses.replace(config, slow_reader_s=0.2)


@pytest.fixture
async def lazy(server: App) -> AsyncIterator[StatusServiceAsyncStub]:
    """A client that buffers only 64 KiB of each stream until it reads."""
    async with aio.insecure_channel(server.grpc_address, options=NO_READ_AHEAD) as channel:
        yield StatusServiceStub(channel)


@pytest.fixture
async def large(pipeline: Pipeline) -> Pipeline:
    """A batch with a snapshot larger than the window."""
    await pipeline.client.reports.CreateBatch(
        rs.CreateBatchRequest(
            dataset_id=pipeline.dataset_id,
            batch_id="large",
            documents=[
                rs.NewDocument(document_id=f"doc-{n}", display_name="x" * 200) for n in range(3_000)
            ],
        )
    )
    pipeline.batch_id = "large"
    return pipeline


async def read_all(call: aio.UnaryStreamCall[Any, Any]) -> tuple[list[Any], aio.AioRpcError]:
    """Return the messages of a stream, and the error that ended it."""
    messages: list[Any] = []
    async with asyncio.timeout(60):
        try:
            while True:
                message = await call.read()
                assert message is not aio.EOF
                messages.append(message)
        except aio.AioRpcError as error:
            return messages, error


async def test_unread_watch_ends_and_its_client_gets_the_status_on_the_next_read(
    large: Pipeline, lazy: StatusServiceAsyncStub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="stagecast")
    call = lazy.WatchBatch(large.watch_request())
    await until(lambda: "stopped reading" in caplog.text)
    messages, error = await read_all(call)
    assert messages, "messages sent earlier come first"
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details_of(error).reason == "SLOW_READER"
    assert details_of(error).retry_after_s == 1.0


@pytest.mark.slow
async def test_stopped_reader_does_not_delay_shutdown(
    config: Config, clock: Clock, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_of_rpc, "_STOPPED_READERS_S", 0.1)
    long_timeout = dataclasses.replace(config, slow_reader_s=600.0, drain_s=600.0)
    async with asyncio.timeout(60), App(long_timeout, clock=clock) as app:
        async with Stubs(app.grpc_address) as client:
            pipeline = Pipeline(client, dataset_id)
            await pipeline.create(3_000, more_documents_follow=True)
        channel = aio.insecure_channel(app.grpc_address, options=NO_READ_AHEAD)
        call = StatusServiceStub(channel).WatchBatch(pipeline.watch_request())
        await until(lambda: bool(app._rpc._pipeline.writer._writes))
    call.cancel()
    await channel.close()


@pytest.mark.slow
async def test_unread_watch_of_datasets_ends(
    client: Stubs, lazy: StatusServiceAsyncStub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="stagecast")
    for number in range(1_000):
        dataset_id = f"00000000-0000-4000-8000-{number:012}"
        await client.reports.CreateBatch(rs.CreateBatchRequest(dataset_id=dataset_id))
    call = lazy.WatchDatasets(ss.WatchDatasetsRequest())
    await call.read()
    await until(lambda: "stopped reading" in caplog.text, meanwhile=_change_all(client))
    _, error = await read_all(call)
    assert details_of(error).reason == "SLOW_READER"


def _change_all(client: Stubs) -> Callable[[], Awaitable[object]]:
    """Return a call that changes many datasets, so that there is always more to send."""

    async def change() -> None:
        for number in range(200):
            dataset_id = f"00000000-0000-4000-8000-{number:012}"
            await client.reports.CreateBatch(rs.CreateBatchRequest(dataset_id=dataset_id))

    return change


@pytest.mark.slow
async def test_slow_reader_resumes_without_gap(
    config: Config, clock: Clock, dataset_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="stagecast")

    async def stop_and_resume(timer_s: float) -> None:
        brief = dataclasses.replace(config, slow_reader_s=timer_s)
        async with (
            App(brief, clock=clock) as app,
            Stubs(app.grpc_address) as client,
            aio.insecure_channel(app.grpc_address, options=NO_READ_AHEAD) as channel,
        ):
            caplog.clear()
            await _stop_and_resume(Pipeline(client, dataset_id), StatusServiceStub(channel), caplog)

    # Before it stops and after it resumes, the reader must be fast enough.
    await with_more_time(stop_and_resume, 0.2)


async def _stop_and_resume(
    pipeline: Pipeline, lazy: StatusServiceAsyncStub, caplog: pytest.LogCaptureFixture
) -> None:
    await pipeline.create(1_000, more_documents_follow=True)
    call = lazy.WatchBatch(pipeline.watch_request())
    message = await read(call)
    while not message.resume_token:
        message = await read(call)
    first = message.revision
    await until(
        lambda: "stopped reading" in caplog.text,
        meanwhile=lambda: _stage_next(pipeline),
    )
    messages, error = await read_all(call)
    assert details_of(error).reason == "SLOW_READER"
    token = ([message.resume_token] + [m.resume_token for m in messages if m.resume_token])[-1]
    async with pipeline.stream(resume_token=token, follow=True) as stream:
        last = pipeline.acknowledged[-1][0]
        messages += await stream.read_to_revision(last)
    revisions = [t.revision for message in messages for t in message.transitions]
    assert revisions == list(range(first + 1, last + 1))


async def _stage_next(pipeline: Pipeline) -> None:
    document_id = pipeline.document_ids[len(pipeline.acknowledged) % 1_000]
    stage = r.Stage.ValueType(r.STAGE_PARSING + len(pipeline.acknowledged) // 1_000)
    await pipeline.stage(stage, document_id)
