"""A server on a thread, a reporter for it, and a client that looks at what was reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import stagecast
from tests.client.reporting.background import Background, LoopThread


@pytest.fixture
def absent(tmp_path: Path) -> Iterator[Background]:
    """A server that is not running yet."""
    with LoopThread() as thread:
        server = Background(thread, tmp_path / "stagecast.db")
        yield server
        server.stop()


@pytest.fixture
def running(absent: Background) -> Background:
    """A server that is running."""
    absent.start()
    return absent


@pytest.fixture
def reporter(absent: Background) -> Iterator[stagecast.Reporter]:
    """A reporter for the server."""
    reporter = stagecast.Reporter(absent.address)
    yield reporter
    reporter._engine.finish(0)


@pytest.fixture
def client(absent: Background) -> Iterator[stagecast.Client]:
    """A client of the server."""
    with stagecast.Client(absent.address) as client:
        yield client
