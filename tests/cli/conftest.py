"""Fixtures of the commands: a server, and a batch on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from tests.cli.batch import Batch


@pytest.fixture
async def server(config: Config) -> AsyncIterator[App]:
    """A server with a real clock, as tables show durations."""
    async with App(config) as app:
        yield app


@pytest.fixture
async def batch(client: Stubs, dataset_id: str) -> Batch:
    """A batch with the documents `a` and `b`."""
    batch = Batch(client, dataset_id)
    await batch.create("a", "b")
    return batch
