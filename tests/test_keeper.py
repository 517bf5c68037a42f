"""The keeper: who is silent for too long stalls, then fails; nobody else ever does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stagecast.model import DocumentState, Stage
from tests.clock import Clock
from tests.keeping import House, live, open_house


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stagecast.db"


@pytest.fixture
async def house(path: Path, clock: Clock) -> AsyncIterator[House]:
    """The only process; it keeps already."""
    async with open_house(path, clock) as house:
        await house.keeper.look()
        yield house


async def test_silent_document_stalls_then_fails_as_lost(house: House, clock: Clock) -> None:
    await house.create("a", stall_after_s=60, fail_after_s=30)
    await house.start("a")
    await live(clock, 60, [house])
    assert not (await house.document("a")).stalled, "not before its time"
    await live(clock, 2, [house])
    stalled = await house.document("a")
    assert (stalled.state, stalled.stalled) == (DocumentState.RUNNING, True)
    await live(clock, 29, [house])
    assert (await house.document("a")).state is DocumentState.RUNNING
    await live(clock, 4, [house])
    lost = await house.document("a")
    assert (lost.state, lost.stalled) == (DocumentState.FAILED, False)
    assert lost.error is not None
    assert lost.error.reason == "WORKER_LOST"
    assert lost.stopped_at is not None
    await live(clock, 200, [house])
    assert await house.kinds("a") == ["REGISTERED", "STARTED", "STALLED", "FAILED"]


@pytest.mark.parametrize("sign", ["heartbeat", "repeat", "progress", "stage", "start"])
async def test_sign_of_life_keeps_a_document_from_stalling(
    house: House, clock: Clock, sign: str
) -> None:
    await house.create("a", stall_after_s=10)
    await house.start("a")
    for number, stage in enumerate((Stage.PARSING, Stage.CLEANING, Stage.SPLITTING), 1):
        await live(clock, 8, [house])
        match sign:
            case "heartbeat":
                await house.beat("a")
            case "repeat":
                await house.report("a", Stage.WAITING)
            case "progress":
                await house.report("a", completed=number)
            case "stage":
                await house.report("a", stage)
            case _:
                await house.start("a")
    await live(clock, 9, [house])
    assert "STALLED" not in await house.kinds("a")
    await live(clock, 3, [house])
    assert (await house.kinds("a"))[-1] == "STALLED"


@pytest.mark.parametrize("sign", ["heartbeat", "repeat", "progress", "start"])
async def test_stalled_document_recovers_by_a_sign_of_life(
    house: House, clock: Clock, sign: str
) -> None:
    """Whether silence goes on to be counted or not."""
    for fail_after_s in (0, 100):
        batch_id = f"b{fail_after_s}"
        await house.create("a", stall_after_s=10, fail_after_s=fail_after_s, batch_id=batch_id)
        await house.start("a", batch_id=batch_id)
        await live(clock, 12, [house])
        match sign:
            case "heartbeat":
                await house.beat("a", batch_id=batch_id)
            case "repeat":
                await house.report("a", Stage.WAITING, batch_id=batch_id)
            case "progress":
                await house.report("a", completed=1, batch_id=batch_id)
            case _:
                await house.start("a", batch_id=batch_id)
        assert (await house.kinds("a", batch_id))[-2:] == ["STALLED", "RECOVERED"]
        await live(clock, 10, [house])
        assert (await house.kinds("a", batch_id))[-1] == "RECOVERED"
        await live(clock, 2, [house])
        assert (await house.kinds("a", batch_id))[-1] == "STALLED", "the clock ran anew"
