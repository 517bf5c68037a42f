"""Requests with `Upgrade` are answered in HTTP/1.1, within its limits."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stagecast.config import Config
from stagecast.store.sqlite import SqliteStore
from tests.rest.test_protocol import ANY, KIB, answer, get, serving


@pytest.fixture
async def address(store: SqliteStore) -> AsyncIterator[str]:
    async with serving(store, Config(http=ANY)) as address:
        yield address


H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")
WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")


def upgrade_request(upgrade: tuple[str, ...], *headers: str) -> bytes:
    """Return a request with `Upgrade` that keeps the connection alive."""
    return get("/healthz", *upgrade, *headers).replace(b"Connection: close\r\n", b"")


@pytest.mark.parametrize("upgrade", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Content-Length: 0", b""),
        ("Content-Length: 11", b"hello\r\nhi\r\n"),
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\nX-More: y\r\n\r\n"),
    ],
    ids=["none", "plain", "chunked"],
)
async def test_upgrade_is_answered_in_http_1_1_and_not_logged(
    address: str,
    caplog: pytest.LogCaptureFixture,
    upgrade: tuple[str, ...],
    header: str,
    body: bytes,
) -> None:
    """Even several times on a connection, and with any body."""
    request = upgrade_request(upgrade, header) + body
    response = await answer(address, request + request, request[:60], request[60:], get("/healthz"))
    assert response.count(b"HTTP/1.1 200 ") == 4
    assert response.count(b"HTTP/1.1 ") == 4
    assert not [record for record in caplog.records if record.levelname != "INFO"]


async def test_limits_hold_for_requests_with_upgrade(address: str) -> None:
    response = await answer(address, upgrade_request(H2C, "X-Large: " + "x" * 40 * KIB))
    assert response.startswith(b"HTTP/1.1 431 ")
    response = await answer(address, upgrade_request(H2C) * 20)
    assert response.count(b"HTTP/1.1 200 ") <= 17
