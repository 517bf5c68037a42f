"""What the server writes: the head with the start of the body, and nothing that is malformed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from stagecast.config import Config
from stagecast.rest import HttpServer
from stagecast.rest.response_cycle import DateHeader
from tests.conditions import until

CONFIG = Config(http="127.0.0.1:0", linger_s=0.0)


class Answer:
    """An application with one answer."""

    def __init__(self, headers: dict[str, str], *parts: bytes, status: int = 200) -> None:
        self.headers = headers
        self.parts = parts
        self.status = status

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        for part in self.parts[:-1]:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": self.parts[-1]})


class Recording(asyncio.Transport):
    """A transport that records what is written."""

    def __init__(self, unsent: int = 0) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self._unsent = unsent

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


async def write(answer: Answer, *, method: str = "GET") -> Sequence[bytes]:
    """Return what is written for an answer."""
    transport = Recording()
    protocol = HttpServer(answer, CONFIG)._server._make_protocol()
    protocol.connection_made(transport)
    protocol.data_received(f"{method} / HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    await until(lambda: protocol.cycle.response_complete)
    protocol.connection_lost(None)
    return transport.written


@asynccontextmanager
async def client(answer: Answer) -> AsyncIterator[httpx.AsyncClient]:
    server = HttpServer(answer, CONFIG)
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://{server.address}", timeout=60) as http:
            yield http
    finally:
        await server.stop(1)


async def test_head_and_body_are_written_together() -> None:
    [whole] = await write(Answer({"content-length": "4"}, b"body"))
    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert whole.endswith(b"content-length: 4\r\n\r\nbody")
    first, second = await write(Answer({"content-length": "4"}, b"bo", b"dy"))
    assert first.endswith(b"\r\n\r\nbo")
    assert second == b"dy"


@pytest.mark.parametrize("unsent", [0, 5])
async def test_connection_is_watched_for_a_slow_reader_only_with_unsent_data(unsent: int) -> None:
    server = HttpServer(Answer({"content-length": "4"}, b"body"), CONFIG)._server
    protocol, transport = server._make_protocol(), Recording(unsent)
    protocol.connection_made(transport)
    protocol.data_received(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    await until(lambda: protocol.cycle.response_complete)
    assert server._unsent == ({transport} if unsent else set())
    protocol.connection_lost(None)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304), ("GET", 204)])
async def test_response_without_a_body_is_its_head(method: str, status: int) -> None:
    headers = {"content-length": "4"} if status == 200 else {}
    body = b"body" if status == 200 else b""
    [head] = await write(Answer(headers, body, status=status), method=method)
    assert head.endswith(b"\r\n\r\n")


async def test_response_of_unknown_length_is_sent_in_chunks() -> None:
    async with client(Answer({}, b"bo", b"dy")) as http:
        response = await http.get("/")
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.content == b"body"


@pytest.mark.parametrize("body", [b"bod", b"body!"])
async def test_response_of_another_length_than_its_head_says_is_cut_off(body: bytes) -> None:
    async with client(Answer({"content-length": "4"}, body)) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/")


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb"])
async def test_header_with_a_line_break_is_never_sent(value: str) -> None:
    async with client(Answer({"content-length": "0", "x": value}, b"")) as http:
        response = await http.get("/")
    assert response.status_code == 500
    assert "b" not in response.headers


async def test_date_is_that_of_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    date = DateHeader()
    for now_s in (1_000_000_000.0, 1_000_000_000.9, 1_000_000_001.0):
        monkeypatch.setattr(time, "time", lambda now_s=now_s: now_s)
        [(name, value)] = date.get()
        assert name == b"date"
        assert parsedate_to_datetime(value.decode()).timestamp() == int(now_s)
    monkeypatch.undo()
    [whole] = await write(Answer({"content-length": "0"}, b""))
    assert b"\r\ndate: " in whole
