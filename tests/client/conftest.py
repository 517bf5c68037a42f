"""Both kinds of clients, on a server in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stagecast.app import App
from tests.client.faces import NAMES, Face


@pytest.fixture(params=NAMES)
async def face(request: pytest.FixtureRequest, server: App) -> AsyncIterator[Face]:
    """A `Client`, and an `AsyncClient`."""
    face = Face(request.param, server.grpc_address)
    yield face
    await face.close()
