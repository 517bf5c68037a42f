"""Fixtures: processes on a new file, with a clock under the control of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.background.node import Node, open_node
from tests.clock import Clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stagecast.db"


@pytest.fixture
async def node(path: Path, clock: Clock) -> AsyncIterator[Node]:
    """The only process; it holds the lease."""
    async with open_node(path, clock) as node:
        await node.detector.scan()
        yield node


@pytest.fixture
async def pair(path: Path, clock: Clock) -> AsyncIterator[tuple[Node, Node]]:
    """Two processes; the first holds the lease."""
    async with open_node(path, clock) as one, open_node(path, clock) as other:
        await one.detector.scan()
        yield one, other
