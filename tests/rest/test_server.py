"""uvicorn in a shared event loop, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import signal
import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Sized
from functools import partial
from typing import Any, cast

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from stagecast.config import Config
from stagecast.errors import StartError
from stagecast.rest import HttpServer
from stagecast.store.sqlite import SqliteStore
from stagecast.tls import load_tls
from tests.certificates import Authority, Certificate
from tests.conditions import until, with_more_time
from tests.rest.apps import open_app
from tests.rest.conftest import Ingestion
from tests.rest.test_slow_readers import Connection

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SlowApp:
    """Answers when allowed."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.allowed = asyncio.Event()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self.requested.set()
        await self.allowed.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def served(store: SqliteStore) -> AsyncIterator[HttpServer]:
    server = HttpServer(open_app(store), Config(http="127.0.0.1:0", linger_s=0.0))
    await server.start()
    yield server
    async with asyncio.timeout(60):
        await server.stop(1)


async def test_endless_handshake_times_out(store: SqliteStore, ours: Certificate) -> None:
    config = Config(
        http="127.0.0.1:0", linger_s=0.0, request_s=0.2, tls_cert=ours.cert, tls_key=ours.key
    )
    server = HttpServer(open_app(store), config, tls=load_tls(config))
    await server.start()
    reader, writer = await asyncio.open_connection(*server.address.split(":"))
    async with asyncio.timeout(40):  # without the limit it takes a minute
        assert await reader.read() == b""
    writer.close()
    await server.stop(1)


async def test_handshakes_count_as_connections_while_they_last(
    store: SqliteStore, authority: Authority, ours: Certificate
) -> None:
    limited = Config(http="127.0.0.1:0", max_connections=2, request_s=600.0)
    config = dataclasses.replace(limited, tls_cert=ours.cert, tls_key=ours.key)
    server = HttpServer(open_app(store), config, tls=load_tls(config))
    await server.start()
    connections = server._server.server_state.connections
    half_open = [await _connected(server) for _ in range(3)]
    await until(lambda: len(connections) == 3)
    reader, writer = await _connected(server)
    async with asyncio.timeout(60):
        assert await reader.read() == b""
    writer.close()
    trust = ssl.create_default_context(cafile=authority.ca)
    async with httpx.AsyncClient(verify=trust, timeout=60) as http:
        for left, status in ((2, 503), (1, 200)):
            half_open.pop()[1].close()
            await until(partial(_has_length, connections, left))
            answer = await http.get(f"https://{server.address}/healthz")
            assert answer.status_code == status
    await server.stop(1)
    assert not connections
    half_open.pop()[1].close()


async def test_handshakes_of_a_burst_are_counted_before_the_next_is_accepted(
    store: SqliteStore, ours: Certificate
) -> None:
    limited = Config(http="127.0.0.1:0", max_connections=2, request_s=600.0, linger_s=0.0)
    config = dataclasses.replace(limited, tls_cert=ours.cert, tls_key=ours.key)
    server = HttpServer(open_app(store), config, tls=load_tls(config))
    await server.start()
    host, _, port = server.address.rpartition(":")
    # All connect before the loop accepts the first.
    sockets = [socket.create_connection((host, int(port))) for _ in range(20)]
    peers = [await asyncio.open_connection(sock=peer) for peer in sockets]
    async with asyncio.timeout(60):
        assert [await reader.read() for reader, _ in peers[3:]] == 17 * [b""]
    for _, writer in peers:
        writer.close()
    await server.stop(1)


async def test_one_handshake_too_many_does_not_get_the_others_refused(
    store: SqliteStore, authority: Authority, ours: Certificate
) -> None:
    limited = Config(http="127.0.0.1:0", max_connections=2, request_s=600.0, linger_s=0.0)
    config = dataclasses.replace(limited, tls_cert=ours.cert, tls_key=ours.key)
    server = HttpServer(open_app(store), config, tls=load_tls(config))
    await server.start()
    peers = [await _connected(server) for _ in range(3)]
    trust = ssl.create_default_context(cafile=authority.ca)
    async with asyncio.timeout(60):
        for (reader, writer), status in zip(peers, (b"200", b"200", b"503"), strict=True):
            await writer.start_tls(trust, server_hostname="127.0.0.1")
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await reader.readline()).split()[1] == status
    for _, writer in peers:
        writer.close()
    await server.stop(1)


class _LargeApp:
    """Answers with far more than sockets buffer."""

    def __init__(self) -> None:
        self.running = 0

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self.running += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self.running -= 1


@pytest.mark.parametrize("pipelined", [1, 3])
async def test_response_that_is_cut_off_is_no_error(
    pipelined: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = _LargeApp()
    server = HttpServer(app, Config(http="127.0.0.1:0", linger_s=0.0))
    await server.start()
    reader, writer = await asyncio.open_connection(*server.address.split(":"), limit=1)
    writer.write(pipelined * b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    await until(lambda: app.running == 1)
    assert await reader.read(1)
    await server.stop(0)
    assert app.running == 0
    assert caplog.text == ""
    writer.close()


def _has_length(connections: Sized, number: int) -> bool:
    return len(connections) == number


async def _connected(server: HttpServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*server.address.split(":"))


async def test_port_0_picks_a_free_one_and_address_names_it(served: HttpServer) -> None:
    host, _, port = served.address.rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0
    async with httpx.AsyncClient(timeout=60) as http:
        assert (await http.get(f"http://{served.address}/healthz")).status_code == 200


async def test_server_without_connections_stops_without_a_timer(
    store: SqliteStore,
) -> None:
    server = HttpServer(open_app(store), Config(http="127.0.0.1:0", linger_s=0.0))
    await server.start()
    stopping = asyncio.create_task(server.stop(60))
    for _ in range(30):  # iterations of the loop
        await asyncio.sleep(0)
    assert stopping.done()
    await stopping


async def test_ipv6_address_is_in_brackets(store: SqliteStore) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET6)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
    server = HttpServer(open_app(store), Config(http="[::1]:0", linger_s=0.0))
    await server.start()
    assert server.address.startswith("[::1]:")
    async with httpx.AsyncClient(timeout=60) as http:
        assert (await http.get(f"http://{server.address}/healthz")).status_code == 200
    await server.stop(1)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "8000",
        ":8000",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "::1:8000",
        "[::1]",
        "[]:8000",
        "http://127.0.0.1:8000",
        "127.0.0.1:8000 ",
    ],
)
async def test_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(StartError, match="is not HOST:PORT") as refusal:
        await HttpServer(SlowApp(), Config(http=address, linger_s=0.0)).start()
    assert repr(address) in str(refusal.value)


@pytest.mark.parametrize("address", ["[::z]:0", "256.256.256.256:0"])
async def test_unknown_host_is_refused(address: str) -> None:
    with pytest.raises(StartError, match="cannot listen for HTTP on") as refusal:
        await HttpServer(SlowApp(), Config(http=address, linger_s=0.0)).start()
    assert address in str(refusal.value)


async def test_address_in_use_is_refused(served: HttpServer) -> None:
    with pytest.raises(StartError, match="already in use") as refusal:
        await HttpServer(SlowApp(), Config(http=served.address, linger_s=0.0)).start()
    assert served.address in str(refusal.value)


async def test_servers_that_share_a_port_listen_together() -> None:
    first = HttpServer(SlowApp(), Config(http="127.0.0.1:0", linger_s=0.0, share_ports=True))
    await first.start()
    second = HttpServer(SlowApp(), Config(http=first.address, linger_s=0.0, share_ports=True))
    await second.start()
    with pytest.raises(StartError, match="already in use"):
        await HttpServer(SlowApp(), Config(http=first.address, linger_s=0.0)).start()
    await first.stop(1)
    await second.stop(1)


async def test_address_is_free_again_after_stop() -> None:
    first = HttpServer(SlowApp(), Config(http="127.0.0.1:0", linger_s=0.0))
    await first.start()
    await first.stop(1)
    second = HttpServer(SlowApp(), Config(http=first.address, linger_s=0.0))
    await second.start()
    await second.stop(1)


async def test_stop_before_start_and_twice_does_nothing() -> None:
    server = HttpServer(SlowApp(), Config(http="127.0.0.1:0", linger_s=0.0))
    await server.stop(1)
    await server.start()
    await server.stop(1)
    await server.stop(1)


async def test_signal_handlers_stay_unchanged() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    server = HttpServer(SlowApp(), Config(http="127.0.0.1:0", linger_s=0.0))
    await server.start()
    assert [signal.getsignal(number) for number in SIGNALS] == before
    await server.stop(1)
    assert [signal.getsignal(number) for number in SIGNALS] == before


async def test_idle_connections_do_not_delay_stop(store: SqliteStore) -> None:
    server = HttpServer(open_app(store), Config(http="127.0.0.1:0", linger_s=0.0))
    await server.start()
    host, _, port = server.address.rpartition(":")
    _, silent = await asyncio.open_connection(host, int(port))
    async with httpx.AsyncClient(timeout=60) as http:
        await http.get(f"http://{server.address}/healthz")  # stays connected
        async with asyncio.timeout(60):
            await server.stop(600)
    silent.close()


async def test_request_under_way_is_answered_within_the_grace() -> None:
    app = SlowApp()
    server = HttpServer(app, Config(http="127.0.0.1:0", linger_s=0.0))
    await server.start()
    async with httpx.AsyncClient(timeout=60) as http:
        request = asyncio.create_task(http.get(f"http://{server.address}/"))
        await app.requested.wait()
        stopping = asyncio.create_task(server.stop(60))
        app.allowed.set()
        assert (await request).status_code == 204
    await stopping


async def test_request_longer_than_the_grace_is_aborted() -> None:
    app = SlowApp()
    server = HttpServer(app, Config(http="127.0.0.1:0", linger_s=0.0))
    await server.start()
    async with httpx.AsyncClient(timeout=60) as http:
        request = asyncio.create_task(http.get(f"http://{server.address}/"))
        await app.requested.wait()
        async with asyncio.timeout(60):
            await server.stop(0.1)
            outcome = await asyncio.gather(request, return_exceptions=True)
    [ended] = outcome
    assert isinstance(ended, httpx.TransportError) or (
        isinstance(ended, httpx.Response) and ended.status_code == 500
    )


async def flood(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Send more than socket buffers hold."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(64):
        await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def request_slowly(server: HttpServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request, and read only the first line."""
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1_000)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    return reader, writer


@pytest.mark.slow
async def test_client_that_stops_reading_is_disconnected_but_not_a_slow_one() -> None:
    async def read_slowly(timer_s: float) -> None:
        server = HttpServer(flood, Config(http="127.0.0.1:0", linger_s=0.0, slow_reader_s=timer_s))
        await server.start()
        _, stopped = await request_slowly(server)
        reader, slow = await request_slowly(server)

        async def read_on() -> None:
            assert await reader.read(10_000)
            await asyncio.sleep(0.01)

        connections: set[Any] = server._server.server_state.connections
        try:
            await until(lambda: len(connections) == 1, meanwhile=read_on)
            [left] = connections
            assert left.client == slow.get_extra_info("sockname")
        finally:
            for writer in (stopped, slow):
                writer.close()
            await server.stop(0.1)

    await with_more_time(read_slowly, 1.5)


def test_timeout_of_slow_readers_is_the_configured_one() -> None:
    server = HttpServer(flood, Config(http="127.0.0.1:0", linger_s=0.0, slow_reader_s=17.0))
    find, stopped = server._server._slow_readers.find, [cast("asyncio.Transport", Connection(5))]
    assert find(stopped, 100.0) == find(stopped, 116.9) == []
    assert find(stopped, 117.0) == stopped


async def test_client_that_reads_nothing_does_not_delay_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = HttpServer(flood, Config(http="127.0.0.1:0", linger_s=0.0))
    await server.start()
    _, writer = await request_slowly(server)
    async with asyncio.timeout(60):
        await server.stop(0.1)
    writer.close()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_head_has_the_headers_of_get_and_no_body(
    served: HttpServer, ingestion: Ingestion
) -> None:
    await ingestion.submit("a")
    async with httpx.AsyncClient(base_url=f"http://{served.address}", timeout=60) as http:
        got, headed = await http.get(ingestion.path), await http.head(ingestion.path)
        assert headed.content == b""
        assert headed.headers["content-length"] == str(len(got.content))
        assert (await http.get(ingestion.path)).content == got.content  # the connection still works


async def test_url_of_63_kib_is_answered(served: HttpServer, ingestion: Ingestion) -> None:
    await ingestion.submit("a")
    ids = [uuid.uuid4().hex for _ in range(1_580)] + [ingestion.dataset_id]
    query = "&".join(f"dataset={dataset_id}" for dataset_id in ids)
    assert 63 * 1024 < len(query) < 64 * 1024
    async with httpx.AsyncClient(timeout=60) as http:
        response = await http.get(f"http://{served.address}/api/v1/datasets/status?{query}")
    assert response.json() == {ingestion.dataset_id: "DATASET_PROCESSING_INITIATED"}


async def test_logs_go_to_the_root_logger_without_requests(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for logger in ("", "uvicorn"):  # a command in this process may have changed the second
        caplog.set_level(logging.INFO, logger)
    app = SlowApp()
    app.allowed.set()
    server = HttpServer(app, Config(http="127.0.0.1:0", linger_s=0.0))
    await server.start()
    async with httpx.AsyncClient(timeout=60) as http:
        await http.get(f"http://{server.address}/")
    await server.stop(1)
    names = {record.name for record in caplog.records}
    assert "uvicorn.error" in names
    assert "uvicorn.access" not in names
