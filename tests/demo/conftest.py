"""Fixtures of the demo's pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stagecast.app import App
from stagecast.config import Config


@pytest.fixture
async def server(config: Config) -> AsyncIterator[App]:
    """A server with a real clock, since the pipeline takes time."""
    async with App(config) as app:
        yield app
