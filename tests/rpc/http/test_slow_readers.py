"""Readers of events that have stopped: as on gRPC, and without a torn event."""

from __future__ import annotations

import asyncio
import dataclasses
import socket

import pytest
from starlette.types import Message

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.v1 import report_service_pb2 as rs
from tests.clock import Clock
from tests.conditions import until, with_more_time
from tests.event_source import EventParser, ServerEvent
from tests.rpc.http.test_events import path_of
from tests.watches.pipeline import Pipeline


async def create_large(client: Stubs, dataset_id: str) -> Pipeline:
    """Create a batch whose snapshot is larger than what the system buffers."""
    pipeline = Pipeline(client, dataset_id)
    await pipeline.create(0, more_documents_follow=True)
    for first in range(0, 20_000, 5_000):
        documents = [
            rs.NewDocument(document_id=f"doc-{first + n}", display_name="x" * 200)
            for n in range(5_000)
        ]
        await client.reports.AddDocuments(
            rs.AddDocumentsRequest(
                dataset_id=dataset_id, batch_id=pipeline.batch_id, documents=documents
            )
        )
    return pipeline


async def stop_reading(app: App, pipeline: Pipeline) -> socket.socket:
    """Open a stream that nobody reads; return its connection."""
    host, _, port = app.http_address.rpartition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (host, int(port)))
    request = f"GET {path_of(pipeline)} HTTP/1.0\r\n\r\n"
    await loop.sock_sendall(connection, request.encode())
    return connection


async def read_on(connection: socket.socket) -> list[ServerEvent]:
    """Read the stream to its end."""
    reader, writer = await asyncio.open_connection(sock=connection)
    async with asyncio.timeout(60):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200 OK")
    return EventParser().parse(body)


@pytest.mark.slow
async def test_unread_stream_ends_with_its_reason_after_whole_events(
    config: Config, clock: Clock, dataset_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="stagecast")

    async def stop_and_read_on(timer_s: float) -> None:
        brief = dataclasses.replace(config, slow_reader_s=timer_s)
        async with App(brief, clock=clock) as app, Stubs(app.grpc_address) as client:
            caplog.clear()
            pipeline = await create_large(client, dataset_id)
            connection = await stop_reading(app, pipeline)
            await until(lambda: "stopped reading" in caplog.text)
            await until(lambda: app.open_watches == 0)
            *events, error = await read_on(connection)
        assert events, "what was sent earlier comes first"
        assert all(event.json["snapshot"] for event in events)
        assert (error.kind, error.json["reason"]) == ("error", "SLOW_READER")
        assert error.json["code"] == "resource_exhausted"
        assert error.json["retryAfterMs"] == 1_000

    # Before the reader stops, an event must have been made and sent in time.
    await with_more_time(stop_and_read_on, 0.5)


@pytest.mark.slow
async def test_large_event_is_written_in_pieces(
    server: App, client: Stubs, dataset_id: str
) -> None:
    pipeline = await create_large(client, dataset_id)
    path = path_of(pipeline)
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    sizes: list[int] = []

    async def send(part: Message) -> None:
        sizes.append(len(part.get("body", b"")))

    async def receive() -> Message:
        raise AssertionError("a request for events has no body")

    serving = asyncio.create_task(server._rpc.over_http(scope, receive, send))
    await until(lambda: sum(sizes) > 1 << 20)
    serving.cancel()
    assert max(sizes) == 1 << 16
