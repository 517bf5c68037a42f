"""The demo's own server, apart from the demo."""

from __future__ import annotations

import asyncio
import multiprocessing
from pathlib import Path

import pytest

from stagecast.demo.server import DemoServer


@pytest.mark.slow
async def test_start_that_is_interrupted_leaves_no_process(tmp_path: Path) -> None:
    server = DemoServer(tmp_path / "s.db")
    starting = asyncio.create_task(server.__aenter__())
    await asyncio.sleep(0)  # the process runs now, and is not ready
    assert multiprocessing.active_children()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not multiprocessing.active_children()
