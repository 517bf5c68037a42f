"""Fixtures of the tests of the RPCs over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from stagecast.app import App
from tests.rpc.http.requests import Http


@pytest.fixture
async def http(server: App) -> AsyncIterator[Http]:
    """An HTTP client of the server."""
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=60) as client:
        yield Http(client)
