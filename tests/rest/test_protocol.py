"""What an HTTP client may send: beyond it there is an answer, and the connection is closed."""

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
    """Serve, and give a connection and the address that it leads to."""
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
    """Send a request and return everything until the server closes the connection."""
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
    """Return a question of Cognee's of exactly so many bytes."""
    one = f"dataset={DATASET_ID}&"
    url = DATASETS_STATUS_PATH + "?" + one * ((size - 40) // len(one) - 1)
    return url + "x=" + "y" * (size - len(url) - 2)


async def test_url_of_64_kib_is_answered(address: str) -> None:
    assert (await answer(address, get(url_of(64 * KIB)))).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("size", [64 * KIB + 1, 100 * KIB, 1_000 * KIB])
async def test_longer_url_is_told_to_be_too_long(address: str, size: int) -> None:
    reported = await answer(address, get(url_of(size)))
    assert reported.startswith(b"HTTP/1.1 414 URI Too Long\r\n")
    assert b"connection: close" in reported


@pytest.mark.parametrize("header", ["X-Large: " + "x" * 200 * KIB, "X: y\r\n" * 30_000 + "X: y"])
async def test_headers_that_are_too_large_are_told(address: str, header: str) -> None:
    reported = await answer(address, get("/healthz", header))
    assert reported.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


@pytest.mark.parametrize(
    ("more", "reported"), [(0, b"HTTP/1.1 200 "), (1, b"HTTP/1.1 431 ")], ids=["most", "one_more"]
)
async def test_headers_of_32_kib_are_answered_and_no_larger_ones(
    address: str, more: int, reported: bytes
) -> None:
    """Counted as they are sent: the colon, the blank and the end of the line as well."""
    few = len("Host: x\r\n" + "Connection: close\r\n" + "X: \r\n")
    large = "X: " + "x" * (32 * KIB - few + more)
    assert (await answer(address, get("/healthz", large))).startswith(reported)


async def test_headers_without_an_end_are_cut_off(address: str) -> None:
    reported = await answer(
        address, b"GET /healthz HTTP/1.1\r\n", *[b"X-More: " + b"x" * 1_000] * 1_000
    )
    assert reported == b"" or reported.startswith(b"HTTP/1.1 431 ")


async def test_what_is_no_http_is_told(address: str) -> None:
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
async def test_request_that_never_ends_is_closed_in_time(store: SqliteStore, begun: bytes) -> None:
    async with serving(store, Config(http=ANY, linger_s=0.0, request_s=0.2)) as address:
        assert (await answer(address, begun)).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


@pytest.mark.parametrize("together", [False, True])
async def test_next_request_that_never_ends_is_closed_in_time(
    store: SqliteStore, together: bool
) -> None:
    first, begun = keep_alive("/healthz"), b"GET /healthz HT"

    async def ask_and_begin(timer_s: float) -> None:
        async with connected(store, request_s=timer_s) as (reader, writer, _):
            writer.write(first + begun if together else first)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            if not together:
                writer.write(begun)
            assert (await reader.read()).startswith(b"HTTP/1.1 408 Request Timeout\r\n")

    await with_more_time(ask_and_begin, 0.2)


async def test_body_that_never_ends_is_closed_in_time(store: SqliteStore) -> None:
    request = get("/healthz", "Content-Length: 1000").replace(b"close", b"keep-alive")

    async def ask(timer_s: float) -> None:
        async with serving(store, Config(http=ANY, linger_s=0.0, request_s=timer_s)) as address:
            assert (await answer(address, request + b"x")).startswith(b"HTTP/1.1 200 ")

    await with_more_time(ask, 0.2)


async def test_connection_lives_on_between_requests(store: SqliteStore) -> None:
    async def ask_twice(timer_s: float) -> None:
        async with connected(store, request_s=timer_s) as (reader, writer, address):
            for _ in range(2):
                writer.write(get("/healthz").replace(b"close", b"keep-alive"))
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
                # Longer than a request may take; another connection tells when that is over.
                await answer(address, b"")

    await with_more_time(ask_twice, 0.2)


async def test_connections_beyond_the_limit_are_told_when_to_come_again(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(store, Config(http=ANY, linger_s=0.0, max_connections=2)) as address:
        opened = [await asyncio.open_connection(*address.split(":")) for _ in range(2)]
        reported = await answer(address, get("/healthz"))
        assert reported.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert reported.count(b"HTTP/1.1 ") == 1, "what it sends is not looked at"
        assert b"retry-after: 5\r\n" in reported
        for reader, writer in opened:
            writer.write(get("/healthz"))
            async with asyncio.timeout(60):
                assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await writer.wait_closed()
        assert not [record for record in caplog.records if record.levelname == "ERROR"]
        assert (await answer(address, get("/healthz"))).startswith(b"HTTP/1.1 200 ")


async def test_client_that_is_told_and_stays_is_hung_up_on(
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


async def test_client_that_is_told_may_go_on_sending_for_a_while(
    monkeypatch: pytest.MonkeyPatch, store: SqliteStore
) -> None:
    """Were it hung up on at once, what it sends would take the answer from it."""
    assert protocol._HANG_UP_S > 0
    monkeypatch.setattr(protocol, "_HANG_UP_S", 3_600.0)
    server = HttpServer(open_app(store), Config(http=ANY, linger_s=0.0))
    await server.start()
    reader, writer = await asyncio.open_connection(*server.address.split(":"))
    connections = server._server.server_state.connections
    writer.write(b"no HTTP\r\n\r\n")
    async with asyncio.timeout(60):
        assert await reader.readline() == b"HTTP/1.1 400 Bad Request\r\n"
        [reported] = connections
        for _ in range(5):
            writer.write(b"x" * KIB)
            # Some time passes: another connection is answered.
            assert (await answer(server.address, get("/healthz"))).startswith(b"HTTP/1.1 200 ")
            assert reported in connections
        assert await reader.read()
    writer.close()
    await until(lambda: not connections)
    await server.stop(1)


async def test_nothing_is_left_of_a_connection_that_is_gone(store: SqliteStore) -> None:
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


async def test_answer_that_is_under_way_is_broken_off_and_no_other_sent_into_it() -> None:
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
async def test_request_that_begins_behind_a_slow_one_is_timed_when_that_is_answered(
    store: SqliteStore, before: int
) -> None:
    """Uvicorn reads no further meanwhile: its client could not end it."""

    async def ask_and_begin(timer_s: float) -> None:
        over = asyncio.Event()

        async def answer_slowly(_scope: Scope, _receive: Receive, send: Send) -> None:
            await over.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"all"})

        server = HttpServer(answer_slowly, Config(http=ANY, linger_s=0.0, request_s=timer_s))
        await server.start()
        requests = keep_alive("/") * before + b"GET / HT"
        telling = asyncio.create_task(answer(server.address, requests))
        # Longer than a request may take; another connection tells when that is over.
        assert (await answer(server.address, b"")).startswith(b"HTTP/1.1 408 ")
        over.set()
        reported = await telling
        await server.stop(0)
        assert reported.count(b"HTTP/1.1 200 ") == before
        assert b"HTTP/1.1 408 " in reported

    await with_more_time(ask_and_begin, 0.2)


async def test_fragment_of_a_url_is_no_part_of_the_question(address: str) -> None:
    reported = await answer(address, get(f"{DATASETS_STATUS_PATH}?dataset={DATASET_ID}#f"))
    assert reported.startswith(b"HTTP/1.1 200 ")


async def test_empty_lines_without_an_end_are_cut_off(address: str) -> None:
    reported = await answer(address, *[b"\r\n" * 1_000] * 100)
    assert reported.startswith(b"HTTP/1.1 431 ")


def keep_alive(path: str, *headers: str) -> bytes:
    return get(path, *headers).replace(b"close", b"keep-alive")


async def test_requests_that_are_sent_at_once_are_answered_in_turn(address: str) -> None:
    reported = await answer(address, keep_alive("/healthz") * 16 + get("/healthz"))
    assert reported.count(b"HTTP/1.1 200 ") == 17


@pytest.mark.parametrize("number", [18, 1_000])
async def test_too_many_requests_at_once_are_cut_off(address: str, number: int) -> None:
    reported = await answer(address, keep_alive("/healthz") * (number - 1) + get("/healthz"))
    assert reported.count(b"HTTP/1.1 200 ") <= 17


CHUNKED = keep_alive("/healthz", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n"


@pytest.mark.parametrize(
    "endless",
    [b"X-More: y\r\n" * 10_000, b"x" * 100_000],
    ids=["headers", "header"],
)
async def test_headers_behind_a_body_without_an_end_are_cut_off(
    store: SqliteStore, endless: bytes
) -> None:
    async with serving(store, Config(http=ANY, linger_s=0.0, request_s=600)) as address:
        reported = await answer(address, CHUNKED, b"0\r\nX-More: y\r\nX-Long: y", *[endless] * 20)
        assert b"HTTP/1.1 200 " in reported or reported == b""


async def test_headers_behind_a_body_are_ignored(address: str) -> None:
    reported = await answer(address, CHUNKED + b"0\r\nX-More: y\r\n\r\n" + get("/healthz"))
    assert reported.count(b"HTTP/1.1 200 ") == 2


async def show_headers(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the names of the headers, when the body has come."""
    while (await receive())["more_body"]:
        pass
    names = b" ".join(name for name, _ in scope["headers"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": names})


async def test_headers_behind_a_body_are_none_of_the_request() -> None:
    server = HttpServer(show_headers, Config(http=ANY, linger_s=0.0))
    await server.start()
    reported = await answer(
        server.address, CHUNKED.replace(b"keep-alive", b"close"), b"0\r\nX-More: y\r\n\r\n"
    )
    assert b"host connection transfer-encoding" in reported
    assert b"x-more" not in reported
    await server.stop(0)


async def test_longer_url_behind_another_request_is_told_to_be_too_long(address: str) -> None:
    """Also one that has no end."""
    reader, writer = await asyncio.open_connection(*address.split(":"))
    async with asyncio.timeout(60):
        writer.write(keep_alive("/healthz"))
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        writer.write(get(url_of(1_000 * KIB))[: 900 * KIB])
        assert (await reader.readline()) == b"HTTP/1.1 414 URI Too Long\r\n"
    writer.close()


async def test_longer_url_in_one_piece_with_another_request_is_cut_off(store: SqliteStore) -> None:
    """At once: what is behind a request that is not answered yet is told nothing."""
    longer = get(url_of(200 * KIB))[: 150 * KIB]
    async with serving(store, Config(http=ANY, linger_s=0.0, request_s=600.0)) as address:
        assert b"HTTP/1.1 408 " not in await answer(address, keep_alive("/healthz") + longer)


async def test_body_in_many_chunks_is_ignored(address: str) -> None:
    chunk = b"100;a=b\r\n" + b"x" * 256 + b"\r\n"
    reported = await answer(address, CHUNKED, *[chunk * 100] * 20, b"0\r\n\r\n" + get("/healthz"))
    assert reported.count(b"HTTP/1.1 200 ") == 2


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
async def test_what_is_refused_before_its_path_is_known_is_told_in_both_styles_and_not_logged(
    address: str, caplog: pytest.LogCaptureFixture, request_: bytes, status: int
) -> None:
    head, _, body = (await answer(address, request_)).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"content-type: application/json" in head
    reported = json.loads(body)
    assert reported["status"] == status
    assert reported["message"] == reported["detail"]
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
async def test_path_is_found_however_a_client_writes_it(address: str, target: str) -> None:
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
async def test_what_peers_send_as_a_matter_of_course_is_taken(
    address: str, request_: bytes
) -> None:
    reported = await answer(address, request_)
    assert reported.startswith(b"HTTP/1.1 200 ")
    assert reported.endswith(b'{"alive":true}')


async def test_head_is_answered_without_a_body(address: str) -> None:
    head = await answer(address, get("/healthz").replace(b"GET", b"HEAD"))
    assert head.startswith(b"HTTP/1.1 200 ")
    assert head.endswith(b"content-type: application/json\r\nconnection: close\r\n\r\n")


async def test_options_of_the_whole_server_are_told(address: str) -> None:
    reported = await answer(address, get("*").replace(b"GET", b"OPTIONS"))
    assert reported.startswith(b"HTTP/1.1 204 ")
    assert b"allow: GET, HEAD\r\n" in reported
    assert (await answer(address, get("*"))).startswith(b"HTTP/1.1 4")
