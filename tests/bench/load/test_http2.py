"""The HTTP/2 client of the benchmark counts what arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.bench import peer
from tests.bench.floors import grpc_server
from tests.bench.load.http2 import CallFailedError, call, open_connection, open_connections
from tests.bench.load.in_flight import drive, watching


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async with peer.running("floors.grpc_server") as floor:
        yield await floor.ask()


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 40_000, 65_000])
async def test_answer_has_the_bytes_of_the_request(address: str, size: int) -> None:
    request = bytes(n % 251 for n in range(size))
    async with open_connection(address) as connection:
        for _ in range(3):
            assert await call(connection, grpc_server.ECHO, request) == request


async def test_requests_beyond_the_window_wait_for_it(address: str) -> None:
    requests = [bytes((number,)) * 30_000 for number in range(100)]
    async with open_connections(address, 2) as connections:
        answers = await drive(connections, grpc_server.ECHO, requests, in_flight=32)
    assert sorted(answers) == requests


async def test_unknown_method_is_a_failed_call(address: str) -> None:
    async with open_connection(address) as connection:
        with pytest.raises(CallFailedError, match=r"/Nothing has failed: .*not found"):
            await call(connection, "/floor.Grpc/Nothing", b"")
        assert await call(connection, grpc_server.ECHO, b"still open") == b"still open"


@pytest.mark.parametrize("size", [0, 500, 100_000])
async def test_every_message_of_every_stream_is_counted(address: str, size: int) -> None:
    async with (
        asyncio.timeout(60),
        open_connection(address) as connection,
        watching(address, grpc_server.WATCH, b"", 10, connections=3, keep=True) as streams,
    ):
        for count, total in ((1, 1), (21, 22)):
            reached = streams.expect_messages(total)
            await call(connection, grpc_server.PUBLISH, grpc_server.published(count, size))
            await reached
        assert streams.messages == 10 * 22
        assert streams.size == 10 * 22 * (size + 5)
        assert all(stream.last == bytes(size) for stream in streams.all)
