"""Heartbeats are merged, written soon and together, and none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from stagecast import heartbeats as heartbeats_module
from stagecast.errors import BatchNotFound, StoreBusy
from stagecast.model import ALL, Beat, Stage, WorkerOrder
from tests.builders import DATASET_ID
from tests.clock import Clock
from tests.keeper.house import BATCH, House, live, open_house


@pytest.fixture
async def house(tmp_path: Path, clock: Clock) -> AsyncIterator[House]:
    async with open_house(tmp_path / "stagecast.db", clock) as house:
        await house.keeper.look()
        yield house


async def _heard(house: House) -> dict[tuple[str, str], int]:
    """Return when each timed document was heard from, by batch and document."""
    return {(timer.batch_id, timer.document_id): timer.heard_at for timer in await house.due()}


async def _say(house: House, *document_ids: str, batch_id: str = BATCH, attempt: int = 0) -> None:
    """Send a heartbeat, which is merged only."""
    beats = [Beat(document_id=document_id, attempt=attempt) for document_id in document_ids]
    await house.heartbeats.beat(DATASET_ID, batch_id, beats, visible=ALL)


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            pass


async def test_heartbeats_of_all_batches_are_one_write(house: House, clock: Clock) -> None:
    names = [f"doc-{number}" for number in range(40)]
    for batch_id in ("one", "two", "three"):
        await house.create(*names, stall_after_s=60, batch_id=batch_id)
        await house.start(*names, batch_id=batch_id)
    clock.pass_time(2)
    before = house.store.writes
    for _ in range(5):
        for batch_id in ("one", "two", "three"):
            await _say(house, *names, batch_id=batch_id)
    assert house.store.writes == before, "they are only merged"
    await house.heartbeats.flush()
    assert house.store.writes == before + 1
    assert set((await _heard(house)).values()) == {clock.now_us}


async def test_heartbeat_right_after_another_sign_of_life_writes_nothing(
    house: House, clock: Clock
) -> None:
    await house.create("a", stall_after_s=60)
    await house.start("a")
    await house.report("a", Stage.PARSING)
    before = house.store.writes
    clock.pass_time(0.9)
    assert await house.beat("a") == [WorkerOrder.GO_ON]
    assert house.store.writes == before
    clock.pass_time(0.2)
    assert await house.beat("a") == [WorkerOrder.GO_ON]
    assert house.store.writes == before + 1


async def test_heartbeats_of_what_cannot_stall_write_nothing(house: House, clock: Clock) -> None:
    await house.create("new", "held", "ended", stall_after_s=60)
    await house.start("held", "ended")
    await house.controls.pause(DATASET_ID, BATCH, "held", visible=ALL)
    await house.report("ended", Stage.COMPLETED)
    await house.create("a", stall_after_s=0, batch_id="patient")
    await house.start("a", batch_id="patient")
    clock.pass_time(10)
    before = house.store.writes
    await _say(house, "new", "held", "ended", "nope")
    await _say(house, "a", batch_id="patient")
    await house.heartbeats.flush()
    assert house.store.writes == before


async def test_heartbeat_is_not_lost_with_what_its_neighbours_are_about(
    house: House, clock: Clock
) -> None:
    """In the meantime one batch is deleted, one document ends and one is taken over."""
    await house.create("a", "b", "c", stall_after_s=60)
    await house.start("a", "b", "c")
    await house.create("x", stall_after_s=60, batch_id="deleted")
    await house.start("x", batch_id="deleted")
    clock.pass_time(2)
    await _say(house, "x", batch_id="deleted")
    await _say(house, "a", "b", "c")
    said = clock.now_us
    await house.controls.delete_batch(DATASET_ID, "deleted", visible=ALL)
    await house.report("a", Stage.COMPLETED)
    await house.start("b", worker="w2")
    clock.pass_time(2)
    await house.heartbeats.flush()
    heard = await _heard(house)
    assert heard[BATCH, "b"] == said, "it began then; the heartbeat was of the attempt before"
    assert heard[BATCH, "c"] == clock.now_us


async def test_heartbeats_survive_a_store_that_cannot_be_written(
    house: House, clock: Clock
) -> None:
    names = [f"doc-{number}" for number in range(2_500)]
    await house.create(*names, stall_after_s=3_600)
    for first in range(0, 2_500, 1_000):
        await house.start(*names[first : first + 3])
    clock.pass_time(2)
    started = [timer.document_id for timer in await house.due()]
    house.store.broken = True
    await _say(house, *started)
    with pytest.raises(StoreBusy):
        await house.heartbeats.flush()
    house.store.broken = False
    await house.heartbeats.flush()
    assert set((await _heard(house)).values()) == {clock.now_us}


async def test_heartbeats_are_written_by_themselves_and_after_a_fault(
    house: House, clock: Clock
) -> None:
    await house.create("a", stall_after_s=60)
    await house.start("a")
    writing = asyncio.create_task(house.heartbeats.run())
    for broken in (False, True):
        clock.pass_time(2)
        house.store.broken = broken
        before = house.store.writes
        await _say(house, "a")

        async def tried(before: int = before) -> bool:
            await asyncio.sleep(0)
            return house.store.writes > before

        await _until(tried)
        house.store.broken = False

        async def written() -> bool:
            return (await _heard(house))[BATCH, "a"] == clock.now_us

        await _until(written)
    writing.cancel()


async def test_heartbeats_that_are_being_written_when_it_ends_are_written_after_that(
    house: House, clock: Clock
) -> None:
    await house.create("a", stall_after_s=60)
    await house.start("a")
    clock.pass_time(2)
    house.store.go_on.clear()
    await _say(house, "a")
    writing = asyncio.create_task(house.heartbeats.run())
    async with asyncio.timeout(60):
        await house.store.waits.wait()
    writing.cancel()
    await asyncio.wait((writing,))
    house.store.go_on.set()
    await house.heartbeats.flush()
    assert (await _heard(house))[BATCH, "a"] == clock.now_us


async def test_who_brings_more_than_there_is_room_for_waits_or_is_told(
    house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats_module, "_MOST", 3)
    names = ["a", "b", "c", "d", "e"]
    await house.create(*names, stall_after_s=60)
    await house.start(*names)
    clock.pass_time(2)
    await _say(house, "a", "b", "c")
    house.store.broken = True
    with pytest.raises(StoreBusy):
        await _say(house, "d")
    house.store.broken = False
    await _say(house, "e")
    clock.pass_time(2)
    await house.heartbeats.flush()
    heard = await _heard(house)
    early = {key for key, heard_at in heard.items() if heard_at == clock.now_us - 2_000_000}
    assert early == {(BATCH, "a"), (BATCH, "b"), (BATCH, "c")}, "they made room"
    assert heard[BATCH, "e"] == clock.now_us


async def test_heartbeat_of_an_unknown_batch_is_refused(house: House) -> None:
    with pytest.raises(BatchNotFound):
        await _say(house, "a", batch_id="nope")


async def test_heartbeat_at_one_process_reaches_the_keeper_of_another(
    house: House, tmp_path: Path, clock: Clock
) -> None:
    """Also one that is merged at the last moment, and not written yet when the keeper looks."""
    async with open_house(tmp_path / "stagecast.db", clock) as other:
        await house.create("a", "b", stall_after_s=10)
        await house.start("a", "b")
        await live(clock, 9.9, [house, other])
        await _say(other, "a")
        await live(clock, 0.4, [house])
        await other.heartbeats.flush()
        await live(clock, 1, [house])
        assert (await house.document("b")).stalled
        assert not (await house.document("a")).stalled
        await live(clock, 9, [house])
        assert "STALLED" not in await house.kinds("a")
