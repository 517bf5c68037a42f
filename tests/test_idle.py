"""An idle server does next to nothing."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.store.sqlite.writer_thread import Writer
from tests.clock import Clock
from tests.conditions import until
from tests.rpc.calls import Calls
from tests.store.test_integrity import opened

# The stall detector's, every second, and that of readiness, every five.
PERIODIC = 2
SOON_S = 6.0  # the time limits of calls leave one timer, which fires much later and in vain


def timers() -> int:
    """Return the number of timers of the running loop that fire soon."""
    loop = asyncio.get_running_loop()
    scheduled: list[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]  # there is no other way
    end_s = loop.time() + SOON_S
    return sum(timer.when() < end_s and not timer.cancelled() for timer in scheduled)


async def until_idle() -> None:
    """Wait until there are no other timers than the periodic ones, of which one may just run."""
    counts: list[int] = []

    def is_idle() -> bool:
        counts.append(timers())
        return len(counts) >= 30 and max(counts[-30:]) == PERIODIC

    await until(is_idle)


async def test_server_without_watches_has_no_timers_but_the_periodic_ones(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    async with App(config, clock=clock) as server, Stubs(server.grpc_address) as client:
        await until_idle()
        await Calls(client, dataset_id).create("a")
        async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=60) as http:
            assert (await http.get("/api/v1/datasets/status")).status_code == 200
        await until_idle()


async def test_writer_wakes_up_for_calls_only(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls: list[float] = []
    read = Writer._read_data_version

    def count(writer: Writer) -> int:
        polls.append(time.monotonic())
        return read(writer)

    async with opened(tmp_path / "s.db", clock) as store:
        monkeypatch.setattr(Writer, "_read_data_version", count)
        await store.probe()
        before, end_s = len(polls), time.monotonic() + 0.2
        await until(lambda: time.monotonic() > end_s)
        assert len(polls) == before
        store.check_foreign_commits()
        await until(lambda: len(polls) == before + 1)
