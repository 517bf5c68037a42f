"""Clients that offer another protocol are answered in HTTP/1.1, within its limits."""

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


def offering(offer: tuple[str, ...], *headers: str) -> bytes:
    """Return a request that offers another protocol, on a connection that stays."""
    return get("/healthz", *offer, *headers).replace(b"Connection: close\r\n", b"")


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Content-Length: 0", b""),
        ("Content-Length: 11", b"hello\r\nhi\r\n"),
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\nX-More: y\r\n\r\n"),
    ],
    ids=["none", "plain", "chunked"],
)
async def test_offer_of_another_protocol_is_answered_in_this_one_without_a_word(
    address: str, caplog: pytest.LogCaptureFixture, offer: tuple[str, ...], header: str, body: bytes
) -> None:
    """Also several times on a connection, and whatever body it has."""
    request = offering(offer, header) + body
    reported = await answer(address, request + request, request[:60], request[60:], get("/healthz"))
    assert reported.count(b"HTTP/1.1 200 ") == 4
    assert reported.count(b"HTTP/1.1 ") == 4
    assert not [record for record in caplog.records if record.levelname != "INFO"]


async def test_limits_hold_for_who_offers_another_protocol(address: str) -> None:
    reported = await answer(address, offering(H2C, "X-Large: " + "x" * 40 * KIB))
    assert reported.startswith(b"HTTP/1.1 431 ")
    reported = await answer(address, offering(H2C) * 20)
    assert reported.count(b"HTTP/1.1 200 ") <= 17
