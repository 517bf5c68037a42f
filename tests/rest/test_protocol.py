"""Limits on HTTP requests: beyond them clients get an error, and the connection is closed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import weakref
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from stagecast.config import Config
from stagecast.rest import DATASETS_STATUS_PATH, HttpServer, protocol
from stagecast.store.sqlite import SqliteStore
from tests.builders import DATASET_ID
from tests.conditions import until, with_more_time
from tests.rest.apps import open_app

ANY = "127.0.0.1:0"
KIB = 1 << 10


@contextlib.asynccontextmanager
async def serving(store: SqliteStore, limits: Config) -> AsyncIterator[str]:
    app = open_app(store)
    server = HttpServer(app, limits)
    await server.start()
    try:
        yield server.address
    finally:
        await server.stop(1)


@contextlib.asynccontextmanager
async def connected(
    store: SqliteStore, *, request_s: float
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, str]]:
    """Serve, and yield a connection and the address of the server."""
    async with serving(store, Config(http=ANY, linger_s=0.0, request_s=request_s)) as address:
        reader, writer = await asyncio.open_connection(*address.split(":"))
        with contextlib.closing(writer):
            async with asyncio.timeout(60):
                yield reader, writer, address


@pytest.fixture
async def address(store: SqliteStore) -> AsyncIterator[str]:
    async with serving(store, Config(http=ANY, linger_s=0.0)) as address:
        yield address


async def answer(address: str, *pieces: bytes) -> bytes:
    """Send a request, and return all data until the server closes the connection."""
    reader, writer = await asyncio.open_connection(*address.split(":"))
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):  # refused before it was all sent
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            return await reader.read()
    return b""


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
    return "".join(line + "\r\n" for line in (*lines, "")).encode()


def url_of(size: int) -> str:
    """Return a URL of Cognee's path with exactly `size` bytes."""
    one = f"dataset={DATASET_ID}&"
    url = DATASETS_STATUS_PATH + "?" + one * ((size - 40) // len(one) - 1)
    return url + "x=" + "y" * (size - len(url) - 2)


async def test_url_of_64_kib_is_answered(address: str) -> None:
    assert (await answer(address, get(url_of(64 * KIB)))).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("size", [64 * KIB + 1, 100 * KIB, 1_000 * KIB])
async def test_longer_url_gets_414(address: str, size: int) -> None:
    response = await answer(address, get(url_of(size)))
    assert response.startswith(b"HTTP/1.1 414 URI Too Long\r\n")
    assert b"connection: close" in response
    assert b"\r\ndate: " in response


@pytest.mark.parametrize("header", ["X-Large: " + "x" * 200 * KIB, "X: y\r\n" * 30_000 + "X: y"])
async def test_too_large_headers_get_431(address: str, header: str) -> None:
    response = await answer(address, get("/healthz", header))
    assert response.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


@pytest.mark.parametrize(
    ("more", "status_line"),
    [(0, b"HTTP/1.1 200 "), (1, b"HTTP/1.1 431 ")],
    ids=["limit", "one_more"],
)
async def test_limit_of_headers_is_32_kib(address: str, more: int, status_line: bytes) -> None:
    """Counted as sent: including colon, space and line end."""
    other_bytes = len("Host: x\r\n" + "Connection: close\r\n" + "X: \r\n")
    large = "X: " + "x" * (32 * KIB - other_bytes + more)
    assert (await answer(address, get("/healthz", large))).startswith(status_line)


async def test_endless_headers_are_cut_off(address: str) -> None:
    response = await answer(
        address, b"GET /healthz HTTP/1.1\r\n", *[b"X-More: " + b"x" * 1_000] * 1_000
    )
    assert response == b"" or response.startswith(b"HTTP/1.1 431 ")


async def test_invalid_http_gets_400(address: str) -> None:
    assert (await answer(address, b"\x16\x03\x01 hello\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


async def test_body_of_a_get_is_ignored(address: str) -> None:
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1), timeout=60) as http:
        for _ in range(2):
            response = await http.request(
                "GET", f"http://{address}/healthz", content=b"x" * (1 << 20)
            )
            assert response.json() == {"alive": True}


@pytest.mark.parametrize(
    "begun",
    [b"", b"\r\n", b"GET /healthz HT", get("/healthz")[:-2] + b"X-Slow: "],
    ids=["nothing", "empty_line", "line", "headers"],
)
async def test_endless_request_times_out(store: SqliteStore, begun: bytes) -> None:
    async with serving(store, Config(http=ANY, linger_s=0.0, request_s=0.2)) as address:
        assert (await answer(address, begun)).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


@pytest.mark.parametrize("together", [False, True])
async def test_endless_next_request_times_out(store: SqliteStore, together: bool) -> None:
    first, begun = keep_alive("/healthz"), b"GET /healthz HT"

    async def ask_and_begin(timer_s: float) -> None:
        async with connected(store, request_s=timer_s) as (reader, writer, _):
            writer.write(first + begun if together else first)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            if not together:
                writer.write(begun)
            assert (await reader.read()).startswith(b"HTTP/1.1 408 Request Timeout\r\n")

    await with_more_time(ask_and_begin, 0.2)


async def test_endless_body_times_out(store: SqliteStore) -> None:
    request = get("/healthz", "Content-Length: 1000").replace(b"close", b"keep-alive")

    async def ask(timer_s: float) -> None:
        async with serving(store, Config(http=ANY, linger_s=0.0, request_s=timer_s)) as address:
            assert (await answer(address, request + b"x")).startswith(b"HTTP/1.1 200 ")

    await with_more_time(ask, 0.2)


async def test_idle_connection_stays_open_between_requests(store: SqliteStore) -> None:
    async def ask_twice(timer_s: float) -> None:
        async with connected(store, request_s=timer_s) as (reader, writer, address):
            for _ in range(2):
                writer.write(get("/healthz").replace(b"close", b"keep-alive"))
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
                # Longer than a request may take, as the timeout of another connection shows.
                await answer(address, b"")

    await with_more_time(ask_twice, 0.2)


async def test_connections_beyond_the_limit_get_503_with_retry_after(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(store, Config(http=ANY, linger_s=0.0, max_connections=2)) as address:
        opened = [await asyncio.open_connection(*address.split(":")) for _ in range(2)]
        response = await answer(address, get("/healthz"))
        assert response.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert response.count(b"HTTP/1.1 ") == 1, "its requests are not read"
        assert b"retry-after: 5\r\n" in response
        for reader, writer in opened:
            writer.write(get("/healthz"))
            async with asyncio.timeout(60):
                assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()
        assert not [record for record in caplog.records if record.levelname == "ERROR"]
        assert (await answer(address, get("/healthz"))).startswith(b"HTTP/1.1 200 ")


async def test_connection_is_closed_if_the_client_stays_after_an_error(
    monkeypatch: pytest.MonkeyPatch, store: SqliteStore
) -> None:
    monkeypatch.setattr(protocol, "_HANG_UP_S", 0.01)
    server = HttpServer(open_app(store), Config(http=ANY, linger_s=0.0, request_s=0.2))
    await server.start()
    _, writer = await asyncio.open_connection(*server.address.split(":"))
    connections = server._server.server_state.connections
    await until(lambda: len(connections) == 1)
    await until(lambda: not connections)
    writer.close()
    await server.stop(1)


async def test_client_may_keep_sending_for_a_while_after_an_error(
    monkeypatch: pytest.MonkeyPatch, store: SqliteStore
) -> None:
    """If the connection were closed at once, further data would destroy the error."""
    assert protocol._HANG_UP_S > 0
    monkeypatch.setattr(protocol, "_HANG_UP_S", 3_600.0)
    server = HttpServer(open_app(store), Config(http=ANY, linger_s=0.0))
    await server.start()
    reader, writer = await asyncio.open_connection(*server.address.split(":"))
    connections = server._server.server_state.connections
    writer.write(b"no HTTP\r\n\r\n")
    async with asyncio.timeout(60):
        assert await reader.readline() == b"HTTP/1.1 400 Bad Request\r\n"
        [connection] = connections
        for _ in range(5):
            writer.write(b"x" * KIB)
            # Some time passes: another connection is answered.
            assert (await answer(server.address, get("/healthz"))).startswith(b"HTTP/1.1 200 ")
            assert connection in connections
        assert await reader.read()
    writer.close()
    await until(lambda: not connections)
    await server.stop(1)


async def test_closed_connection_is_freed(store: SqliteStore) -> None:
    server = HttpServer(open_app(store), Config(http=ANY, linger_s=0.0, request_s=600.0))
    await server.start()
    _, writer = await asyncio.open_connection(*server.address.split(":"))
    connections = server._server.server_state.connections
    await until(lambda: len(connections) == 1)
    left = [weakref.ref(connection) for connection in connections]
    writer.close()
    await until(lambda: gc.collect() >= 0 and left[0]() is None)
    await server.stop(1)


async def answer_by_halves(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    await asyncio.Event().wait()


async def test_no_error_is_sent_into_a_response_under_way() -> None:
    server = HttpServer(answer_by_halves, Config(http=ANY, linger_s=0.0))
    await server.start()
    reader, writer = await asyncio.open_connection(*server.address.split(":"))
    async with asyncio.timeout(60):
        writer.write(keep_alive("/"))
        assert (await reader.readuntil(b"half")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"no HTTP\r\n")
        assert b"HTTP/1.1 " not in await reader.read()
    writer.close()
    await server.stop(0)


@pytest.mark.parametrize("before", [1, 2])
async def test_pipelined_request_is_timed_after_the_response_before_it(
    store: SqliteStore, before: int
) -> None:
    """Until then uvicorn does not read, so the client could not complete it."""

    async def ask_and_begin(timer_s: float) -> None:
        over = asyncio.Event()

        async def answer_slowly(_scope: Scope, _receive: Receive, send: Send) -> None:
            await over.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"all"})

        server = HttpServer(answer_slowly, Config(http=ANY, linger_s=0.0, request_s=timer_s))
        await server.start()
        requests = keep_alive("/") * before + b"GET / HT"
        answering = asyncio.create_task(answer(server.address, requests))
        # Longer than a request may take, as the timeout of another connection shows.
        assert (await answer(server.address, b"")).startswith(b"HTTP/1.1 408 ")
        over.set()
        response = await answering
        await server.stop(0)
        assert response.count(b"HTTP/1.1 200 ") == before
        assert b"HTTP/1.1 408 " in response

    await with_more_time(ask_and_begin, 0.2)


async def test_fragment_of_a_url_is_not_part_of_the_query(address: str) -> None:
    response = await answer(address, get(f"{DATASETS_STATUS_PATH}?dataset={DATASET_ID}#f"))
    assert response.startswith(b"HTTP/1.1 200 ")


async def test_endless_empty_lines_are_cut_off(address: str) -> None:
    response = await answer(address, *[b"\r\n" * 1_000] * 100)
    assert response.startswith(b"HTTP/1.1 431 ")


def keep_alive(path: str, *headers: str) -> bytes:
    return get(path, *headers).replace(b"close", b"keep-alive")


async def test_pipelined_requests_are_answered_in_order(address: str) -> None:
    response = await answer(address, keep_alive("/healthz") * 16 + get("/healthz"))
    assert response.count(b"HTTP/1.1 200 ") == 17


@pytest.mark.parametrize("number", [18, 1_000])
async def test_too_many_pipelined_requests_are_cut_off(address: str, number: int) -> None:
    response = await answer(address, keep_alive("/healthz") * (number - 1) + get("/healthz"))
    assert response.count(b"HTTP/1.1 200 ") <= 17


CHUNKED = keep_alive("/healthz", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n"


@pytest.mark.parametrize(
    "endless",
    [b"X-More: y\r\n" * 10_000, b"x" * 100_000],
    ids=["headers", "header"],
)
async def test_endless_trailers_are_cut_off(store: SqliteStore, endless: bytes) -> None:
    async with serving(store, Config(http=ANY, linger_s=0.0, request_s=600)) as address:
        response = await answer(address, CHUNKED, b"0\r\nX-More: y\r\nX-Long: y", *[endless] * 20)
        assert b"HTTP/1.1 200 " in response or response == b""


async def test_trailers_are_ignored(address: str) -> None:
    response = await answer(address, CHUNKED + b"0\r\nX-More: y\r\n\r\n" + get("/healthz"))
    assert response.count(b"HTTP/1.1 200 ") == 2


async def show_headers(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the names of the headers once the body is complete."""
    while (await receive())["more_body"]:
        pass
    names = b" ".join(name for name, _ in scope["headers"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": names})


async def test_trailers_are_not_added_to_the_headers() -> None:
    server = HttpServer(show_headers, Config(http=ANY, linger_s=0.0))
    await server.start()
    response = await answer(
        server.address, CHUNKED.replace(b"keep-alive", b"close"), b"0\r\nX-More: y\r\n\r\n"
    )
    assert b"host connection transfer-encoding" in response
    assert b"x-more" not in response
    await server.stop(0)


async def test_longer_url_after_another_request_gets_414(address: str) -> None:
    """Even an incomplete one."""
    reader, writer = await asyncio.open_connection(*address.split(":"))
    async with asyncio.timeout(60):
        writer.write(keep_alive("/healthz"))
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        writer.write(get(url_of(1_000 * KIB))[: 900 * KIB])
        assert (await reader.readline()) == b"HTTP/1.1 414 URI Too Long\r\n"
    writer.close()


async def test_pipelined_longer_url_is_cut_off(store: SqliteStore) -> None:
    """At once and without an error, since the first request is not answered yet."""
    longer = get(url_of(200 * KIB))[: 150 * KIB]
    async with serving(store, Config(http=ANY, linger_s=0.0, request_s=600.0)) as address:
        assert b"HTTP/1.1 408 " not in await answer(address, keep_alive("/healthz") + longer)


async def test_body_in_many_chunks_is_ignored(address: str) -> None:
    chunk = b"100;a=b\r\n" + b"x" * 256 + b"\r\n"
    response = await answer(address, CHUNKED, *[chunk * 100] * 20, b"0\r\n\r\n" + get("/healthz"))
    assert response.count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01 hello\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", 501),
        (get(url_of(65 * KIB)), 414),
        (get("/healthz", "X-Large: " + "x" * 40 * KIB), 431),
    ],
    ids=["tls", "http2", "blank", "tunnel", "url", "headers"],
)
async def test_early_error_has_the_keys_of_both_styles_and_is_not_logged(
    address: str, caplog: pytest.LogCaptureFixture, request_: bytes, status: int
) -> None:
    head, _, body = (await answer(address, request_)).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"content-type: application/json" in head
    error = json.loads(body)
    assert error["status"] == status
    assert error["message"] == error["detail"]
    assert not [record for record in caplog.records if record.levelname != "INFO"]


@pytest.mark.parametrize(
    "target",
    [
        "http://example.org/healthz",
        "HTTPS://user@stage_cast:/healthz?a#b",
        "http://[::1]:8000/healthz",
        "//healthz",
        "http://example.org//healthz",
        "/%68ealth%7a",
        "/healthz?a;b=http://c//d",
        "/healthz?",
    ],
)
async def test_equivalent_targets_lead_to_the_same_path(address: str, target: str) -> None:
    assert (await answer(address, get(target))).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "target", ["http://example.org", "http://example.org?a", "/a/http://b/healthz"]
)
async def test_other_path_is_not_found(address: str, target: str) -> None:
    assert (await answer(address, get(target))).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHOST: x\r\ncOnNeCtIoN: close\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nConnection: TE\r\n\r\n",
        get("/healthz", "Expect: 100-Continue", "Content-Length: 5") + b"hello",
        get("/healthz", "X-Name: ä"),
    ],
    ids=["old", "old_offer", "any_case", "twice", "expect", "not_ascii"],
)
async def test_ordinary_variants_of_requests_are_accepted(address: str, request_: bytes) -> None:
    response = await answer(address, request_)
    assert response.startswith(b"HTTP/1.1 200 ")
    assert response.endswith(b'{"alive":true}')


async def test_head_is_answered_without_a_body(address: str) -> None:
    head = await answer(address, get("/healthz").replace(b"GET", b"HEAD"))
    assert head.startswith(b"HTTP/1.1 200 ")
    assert head.endswith(b"content-type: application/json\r\nconnection: close\r\n\r\n")


async def test_options_of_the_whole_server_are_answered(address: str) -> None:
    response = await answer(address, get("*").replace(b"GET", b"OPTIONS"))
    assert response.startswith(b"HTTP/1.1 204 ")
    assert b"allow: GET, HEAD\r\n" in response
    assert (await answer(address, get("*"))).startswith(b"HTTP/1.1 4")


async def test_request_whose_body_is_awaited_without_end_is_closed() -> None:
    async def await_the_body(_scope: Scope, receive: Receive, _send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    server = HttpServer(await_the_body, Config(http=ANY, linger_s=0.0, request_s=0.1))
    await server.start()
    begun = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"
    assert await answer(server.address, begun) == b""
    await server.stop(1)
