"""Time in which no keeper ran, and jumps of the clock, count for nothing."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from stagecast.errors import StoreBusy
from stagecast.model import (
    ALL,
    Beat,
    DocumentState,
    Report,
    Stage,
)
from tests.builders import DATASET_ID
from tests.clock import Clock
from tests.keeper.house import BATCH, House, live, open_house


async def test_downtime_gives_every_document_its_full_grace(path: Path, clock: Clock) -> None:
    async with open_house(path, clock) as house:
        await house.keeper.look()
        await house.create("runs", "stalls", stall_after_s=60, fail_after_s=30)
        await house.start("stalls")
        await live(clock, 40, [house])
        await house.start("runs")
        await live(clock, 45, [house])
        assert (await house.document("stalls")).stalled
    clock.pass_time(30 * 86_400)
    async with open_house(path, clock) as house:
        await live(clock, 30, [house])
        for name in ("runs", "stalls"):
            assert (await house.document(name)).state is DocumentState.RUNNING
        await live(clock, 8, [house])
        assert (await house.document("stalls")).state is DocumentState.FAILED
        await live(clock, 22, [house])
        assert not (await house.document("runs")).stalled
        await live(clock, 9, [house])
        assert (await house.document("runs")).stalled


async def test_time_in_which_all_processes_hung_does_not_count(
    pair: tuple[House, House], clock: Clock
) -> None:
    one, _ = pair
    await one.create("a", stall_after_s=10)
    await one.start("a")
    await live(clock, 9, pair)
    clock.pass_time(4)
    await live(clock, 10, pair)
    assert not (await one.document("a")).stalled
    await live(clock, 2, pair)
    assert (await one.document("a")).stalled


async def test_time_in_which_the_store_could_not_be_written_does_not_count(
    house: House, clock: Clock
) -> None:
    await house.create("a", stall_after_s=10)
    await house.start("a")
    house.store.broken = True
    for _ in range(20):
        with contextlib.suppress(StoreBusy):
            await live(clock, 1, [house])
    house.store.broken = False
    await live(clock, 10, [house])
    assert not (await house.document("a")).stalled
    await live(clock, 2, [house])
    assert (await house.document("a")).stalled


@pytest.mark.parametrize("hours", [1, 24 * 365, -1, -24 * 365])
async def test_jump_of_the_clock_neither_stalls_nor_spares(
    house: House, clock: Clock, hours: float
) -> None:
    await house.create("a", "b", stall_after_s=60, fail_after_s=30)
    await house.start("a")
    await live(clock, 63, [house])
    await house.start("b")
    await live(clock, 20, [house])
    clock.advance(hours * 3_600)
    await live(clock, 29, [house])
    assert (await house.document("a")).state is DocumentState.RUNNING
    await live(clock, 4, [house])
    assert (await house.document("a")).state is DocumentState.FAILED
    assert not (await house.document("b")).stalled
    await live(clock, 30, [house])
    assert (await house.document("b")).stalled


@pytest.mark.parametrize("hours", [-1, -24 * 365])
async def test_clock_that_was_set_back_while_nobody_ran_does_not_spare(
    path: Path, clock: Clock, hours: float
) -> None:
    async with open_house(path, clock) as house:
        await house.keeper.look()
        await house.create("a", stall_after_s=60)
        await house.start("a")
        await live(clock, 10, [house])
    clock.advance(hours * 3_600)
    async with open_house(path, clock) as house:
        await live(clock, 60, [house])
        assert not (await house.document("a")).stalled
        await live(clock, 9, [house])
        assert (await house.document("a")).stalled


async def test_sign_of_life_after_the_clock_was_set_back_counts(house: House, clock: Clock) -> None:
    await house.create("a", "b", stall_after_s=60)
    await house.start("a", "b")
    clock.advance(-3_600)
    await house.beat("a")
    await house.report("b", Stage.PARSING)
    await live(clock, 50, [house])
    await house.beat("a")
    await live(clock, 12, [house])
    assert (await house.kinds("b"))[-1] == "STALLED"
    assert (await house.kinds("a"))[-1] == "STARTED"
    await live(clock, 50, [house])
    assert (await house.kinds("a"))[-1] == "STALLED"


async def test_clock_that_is_set_back_within_a_look_stalls_nothing(
    path: Path, clock: Clock
) -> None:
    """The report came before the look could write, and looks as if it were long ago."""
    async with open_house(path, clock) as one, open_house(path, clock) as other:
        await one.keeper.look()
        await one.create("a", stall_after_s=60)
        await one.start("a")
        await live(clock, 60, [one])
        clock.pass_time(2)
        one.store.go_on.clear()
        looking = asyncio.ensure_future(one.keeper.look())
        async with asyncio.timeout(60):
            await one.store.waits.wait()
        clock.advance(-3_600)
        await other.report("a", Stage.PARSING)
        one.store.go_on.set()
        await looking
        assert not (await one.document("a")).stalled


async def test_sign_of_life_that_waits_for_the_same_lock_as_the_keeper_counts(
    pair: tuple[House, House], clock: Clock
) -> None:
    """A third process holds the lock, and the keeper gets it before who merged the sign of life."""
    keeping, serving = pair
    await keeping.create("a", stall_after_s=10)
    await keeping.start("a")
    await live(clock, 9, [keeping])
    clock.pass_time(0.9)
    await serving.heartbeats.beat(
        DATASET_ID, BATCH, [Beat(document_id="a", attempt=0)], visible=ALL
    )
    clock.pass_time(1.2)
    keeping.store.go_on.clear()
    looking = asyncio.ensure_future(keeping.keeper.look())
    async with asyncio.timeout(60):
        await keeping.store.waits.wait()
    clock.pass_time(2)
    keeping.store.go_on.set()
    await looking
    await serving.heartbeats.flush()
    await live(clock, 9, [keeping])
    assert await keeping.kinds("a") == ["REGISTERED", "STARTED"]
    await live(clock, 3, [keeping])
    assert (await keeping.kinds("a"))[-1] == "STALLED"


async def test_silence_is_seen_although_each_look_waits_long_for_the_lock(
    house: House, clock: Clock
) -> None:
    await house.create("a", stall_after_s=10)
    await house.start("a")
    for _ in range(11):
        clock.pass_time(1)
        house.store.go_on.clear()
        house.store.waits.clear()
        looking = asyncio.ensure_future(house.keeper.look())
        waiting = asyncio.ensure_future(house.store.waits.wait())
        async with asyncio.timeout(60):
            await asyncio.wait((looking, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        clock.pass_time(1.5)
        house.store.go_on.set()
        await looking
    assert (await house.kinds("a"))[-1] == "STALLED"


async def test_many_timers_are_set_back_in_small_steps(house: House, clock: Clock) -> None:
    names = [f"doc-{number}" for number in range(700)]
    await house.create(*names, stall_after_s=60)
    reports = [Report(document_id=name, stage=Stage.PARSING) for name in names]
    await house.reports.report(DATASET_ID, BATCH, reports, visible=ALL)
    await live(clock, 3, [house])
    clock.advance(-3_600)
    before = house.store.writes
    await house.keeper.look()
    assert house.store.writes - before >= 3
    timers = await house.due()
    assert len(timers) == 700
    assert max(timer.due_at for timer in timers) == clock.now_us + 60_000_000
    assert (await house.lease()).reached_at == clock.now_us
    before = house.store.writes
    await live(clock, 3, [house])
    assert house.store.writes - before <= 2, "it beats; they were set back once"
