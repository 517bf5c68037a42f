"""Fixtures of the demo's pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import stagecast
from stagecast.demo.index import Index
from tests.client.reporting.background import Background, LoopThread


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Background]:
    """A server on a thread of its own."""
    with LoopThread() as thread:
        server = Background(thread, tmp_path / "stagecast.db")
        server.start()
        yield server
        server.stop()


@pytest.fixture
def client(server: Background) -> Iterator[stagecast.Client]:
    """A client of the server."""
    with stagecast.Client(server.address) as client:
        yield client


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An empty index."""
    with Index(tmp_path / "index.db") as index:
        yield index
