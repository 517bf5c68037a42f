"""Fixtures: processes on a fresh file, whose time only tests let pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clock import Clock
from tests.keeper.house import House, open_house


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stagecast.db"


@pytest.fixture
async def house(path: Path, clock: Clock) -> AsyncIterator[House]:
    """The only process; it keeps already."""
    async with open_house(path, clock) as house:
        await house.keeper.look()
        yield house


@pytest.fixture
async def pair(path: Path, clock: Clock) -> AsyncIterator[tuple[House, House]]:
    """Two processes; the first keeps."""
    async with open_house(path, clock) as one, open_house(path, clock) as other:
        await one.keeper.look()
        yield one, other
