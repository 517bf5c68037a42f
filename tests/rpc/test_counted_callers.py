"""Watches are counted by key, by named token, or else by address."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.rpc.limits import counted_as
from stagecast.v1 import status_service_pb2 as ss
from tests.access import make_key
from tests.clock import Clock
from tests.rpc.calls import refused

# With the message, which has the number of watches that were counted.
TOO_MANY = ("WATCH_LIMIT", "too many watches of one caller: 1 open (limit: 1)")
SHARED = "a text that both know, of 32 bytes or more"


def token(number: int, **claims: str) -> str:
    """Return a unique token."""
    value = {
        "aud": "stagecast",
        "exp": time.time() + 600,
        "scope": "read",
        "datasets": ["*"],
        "jti": str(number),
    }
    return jwt.encode(value | claims, SHARED, "HS256")


@pytest.fixture
def config(config: Config, tmp_path: Path) -> Config:
    secret = tmp_path / "shared"
    secret.write_text(SHARED)
    return dataclasses.replace(config, jwt_key=secret, max_watches_per_caller=1)


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time_ns() // 1_000)


class Peer:
    """The context of a call, with its peer only."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def peer(self) -> str:
        return self._peer


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("ipv4:10.0.0.1:50000", "ipv4:10.0.0.1"),
        ("ipv6:%5B2001:db8::1%5D:50000", "ipv6:%5B2001:db8::1%5D"),
        ("unix:", "unix"),
        ("unix:/run/a:b", "unix"),
    ],
)
def test_connections_from_one_address_are_counted_together(peer: str, counted: str) -> None:
    context: Any = Peer(peer)
    assert counted_as(None, context) == counted


@contextlib.asynccontextmanager
async def watching(server: App, credential: str) -> AsyncIterator[None]:
    """Open a watch during the block, on its own connection."""
    async with Stubs(server.grpc_address, key=credential) as client:
        watch = client.status.WatchDatasets(ss.WatchDatasetsRequest())
        await watch.read()
        try:
            yield
        finally:
            watch.cancel()


async def refusal_of(server: App, credential: str) -> tuple[str, str]:
    """Return the reason and message that refuse one more watch of this caller."""
    refusal = await refused(_watch_once(server, credential))
    return refusal.reason, refusal.message


async def _watch_once(server: App, credential: str) -> None:
    async with watching(server, credential):
        pass


async def test_keys_at_one_address_are_counted_separately(config: Config, clock: Clock) -> None:
    one, other = [await make_key(config.db, name="same") for _ in range(2)]
    async with (
        App(config, clock=clock) as server,
        watching(server, one),
        watching(server, other),
    ):
        assert await refusal_of(server, one) == TOO_MANY
        assert await refusal_of(server, other) == TOO_MANY


async def test_tokens_are_counted_by_name(
    server: App,
) -> None:
    async with watching(server, token(1, sub="alice")), watching(server, token(2, sub="bob")):
        assert await refusal_of(server, token(3, sub="alice")) == TOO_MANY


async def test_tokens_without_a_name_are_counted_by_address(server: App) -> None:
    async with watching(server, token(1)):
        assert await refusal_of(server, token(2)) == TOO_MANY
