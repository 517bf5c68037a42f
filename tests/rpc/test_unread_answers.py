"""Connections with unread answers, or without calls, are closed, and no others."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import math
import subprocess
import sys
import uuid
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.rpc import unread_answers
from stagecast.rpc.http.unary import UnaryCall
from stagecast.rpc.running_calls import RunningCall
from stagecast.rpc.unread_answers import UnreadAnswers
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.clock import Clock
from tests.conditions import until, with_more_time
from tests.rpc.calls import BATCH, Calls, stage
from tests.rpc.http2 import raw_connection

LIST = "/stagecast.v1.StatusService/ListDocuments"
CHECK = "/grpc.health.v1.Health/Check"
NEVER_S = 600.0
SOON_S = 0.2
CLOSING = (
    "a client on the unix socket does not read its answers; closing all connections of the socket, "
    "as grpc does not tell them apart"
)


def framed(request: Message) -> bytes:
    """Return a request with its gRPC frame."""
    content = request.SerializeToString()
    return bytes(1) + len(content).to_bytes(4) + content


async def fill(app: App, dataset_id: str, documents: int) -> bytes:
    """Create a batch; return a request for its documents."""
    async with Stubs(app.grpc_address) as client:
        await Calls(client, dataset_id).create(*(f"doc-{n}" for n in range(documents)))
    return framed(ss.ListDocumentsRequest(dataset_id=dataset_id, batch_id=BATCH, page_size=1_000))


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("documents", [1, 1_000])
async def test_connection_with_unread_answers_is_closed_in_time(
    config: Config, clock: Clock, dataset_id: str, documents: int, host: str
) -> None:
    brief = dataclasses.replace(config, grpc=f"{host}:0", slow_reader_s=SOON_S)
    async with App(brief, clock=clock) as app, asyncio.timeout(60):
        request = await fill(app, dataset_id, documents)
        tasks = len(asyncio.all_tasks())
        async with (
            raw_connection(app.grpc_address, window=0) as stopped,
            raw_connection(app.grpc_address) as other,
        ):
            for _ in range(10):
                stopped.begin(LIST, request)
            await stopped.read_until_closed()
            await other.ping()
            await until(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_answer_of_health_has_the_same_limit(config: Config, clock: Clock) -> None:
    brief = dataclasses.replace(config, slow_reader_s=SOON_S)
    async with (
        asyncio.timeout(60),
        App(brief, clock=clock) as app,
        raw_connection(app.grpc_address, window=0) as stopped,
    ):
        stopped.begin(CHECK, bytes(5))
        await stopped.read_until_closed()


async def test_answers_beyond_the_byte_limit_have_a_short_timeout(
    config: Config, clock: Clock, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread_answers, "_SHORT_TIMEOUT_S", SOON_S)
    few = dataclasses.replace(config, slow_reader_s=NEVER_S, max_waiting_bytes=100_000)
    async with App(few, clock=clock) as app, asyncio.timeout(60):
        request = await fill(app, dataset_id, 1_000)
        async with raw_connection(app.grpc_address, window=0) as stopped:
            for _ in range(10):
                stopped.begin(LIST, request)
            await stopped.read_until_closed()


@pytest.mark.slow
async def test_answer_is_counted_until_it_is_read(server: App, dataset_id: str) -> None:
    request = await fill(server, dataset_id, 1_000)
    answers = server._rpc._pipeline.unread
    async with raw_connection(server.grpc_address, window=0) as stopped:
        stream = stopped.begin(LIST, request)
        await until(lambda: answers._bytes > 1_000)
        stopped.open_window(stream, 1 << 20)
        await until(lambda: not answers._bytes)


def test_search_for_connections_leaves_the_locks_on_files(tmp_path: Path) -> None:
    path = tmp_path / "locked"
    lock = f"import fcntl; fcntl.lockf(open({str(path)!r}, 'wb'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with path.open("wb") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        unread_answers._close(lambda _: False)
        another_process = subprocess.run([sys.executable, "-c", lock], stderr=subprocess.PIPE)
    assert b"BlockingIOError" in another_process.stderr


async def test_call_that_has_just_ended_is_not_looked_up() -> None:
    """The client's connection is closed, and grpc has freed the call, so that it would crash."""
    looked_up = False

    class Freed:
        def peer(self) -> str:
            nonlocal looked_up
            looked_up = True
            return ""

    answers = UnreadAnswers(0.0, max_bytes=1)
    context: Any = Freed()

    async def call() -> None:
        answers.add(RunningCall(context), 1)

    task = asyncio.create_task(call())
    # A timer fires before the callbacks of the task run.
    asyncio.get_running_loop().call_soon(answers._unread._wake)
    await task
    await until(lambda: not answers._bytes)
    assert not looked_up


async def test_all_connections_of_a_unix_socket_are_closed_and_watches_resume(
    config: Config, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are all the same to gRPC."""
    caplog.set_level("INFO", logger="stagecast.rpc.unread_answers")
    sockets = dataclasses.replace(config, grpc=f"unix:{tmp_path}/g", http=f"unix:{tmp_path}/h")

    async def attempt(timer_s: float) -> None:
        caplog.clear()
        brief = dataclasses.replace(sockets, slow_reader_s=timer_s)
        async with (
            asyncio.timeout(60),
            App(brief, clock=clock) as app,
            Stubs(app.grpc_address) as watcher,
            Stubs(app.grpc_address) as worker,
        ):
            calls = Calls(worker, str(uuid.uuid4()))
            await calls.create("a", "b")
            request = ss.WatchBatchRequest(dataset_id=calls.dataset_id, batch_id=BATCH)
            reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/h")
            async with contextlib.aclosing(watcher.watch(request)) as watch:
                first = await anext(watch)
                async with raw_connection(app.grpc_address, window=0) as stopped:
                    stopped.begin(CHECK, bytes(5))
                    await stopped.read_until_closed()
                async with Stubs(app.grpc_address) as later:
                    await Calls(later, calls.dataset_id).report(stage("a", r.STAGE_COMPLETED))
                resumed = await anext(watch)
            assert not resumed.HasField("snapshot")
            assert resumed.transitions[0].revision == first.revision + 1
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.close()
            await writer.wait_closed()
        assert caplog.messages.count(CLOSING) == 1

    await with_more_time(attempt, SOON_S)


async def test_idle_connection_is_closed_and_one_with_a_watch_is_not(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    brief = dataclasses.replace(config, http_idle_s=1.0)
    async with App(brief, clock=clock) as app, asyncio.timeout(60):
        await fill(app, dataset_id, 1)
        request = ss.WatchBatchRequest(dataset_id=dataset_id, batch_id=BATCH, follow=True)
        async with raw_connection(app.grpc_address) as watching:
            watching.begin("/stagecast.v1.StatusService/WatchBatch", framed(request))
            await until(lambda: app.open_watches == 1)
            async with raw_connection(app.grpc_address) as idle:
                await idle.read_until_closed()
            await watching.ping()
            assert app.open_watches == 1


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:127.0.0.1:80", (ip_address("127.0.0.1"), 80)),
        ("ipv6:%5B::1%5D:80", (ip_address("::1"), 80)),
        ("ipv6:%5B::ffff:127.0.0.1%5D:80", (ip_address("127.0.0.1"), 80)),
        ("ipv6:%5Bfe80::1%25eth0%5D:80", (ip_address("fe80::1%eth0"), 80)),
        ("unix:", None),
    ],
)
def test_peer_address_is_parsed_from_grpc_notation(peer: str, expected: object) -> None:
    assert unread_answers._parse(peer) == expected


async def test_unread_answer_over_http_closes_no_connection_of_grpc() -> None:
    method: Any = None  # not called
    context: Any = UnaryCall(method, {"headers": []}, method, method, max_bytes=0)
    unread = UnreadAnswers(0.01, max_bytes=1)
    call = RunningCall(context)
    waiting = asyncio.create_task(asyncio.Event().wait())
    call.task = waiting
    unread.add(call, 1)
    await until(lambda: math.inf in unread._unread._ends_s.values())
    assert (unread._overdue, unread._closing) == (set(), None)
    waiting.cancel()
