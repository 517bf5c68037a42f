"""What nobody takes stalls, and what nobody goes on with is sealed; nothing else ever is."""

from __future__ import annotations

from pathlib import Path

import pytest

from stagecast.errors import BatchSealed
from stagecast.model import (
    ALL,
    Batch,
    BatchState,
    DocumentState,
    NewDocument,
    Stage,
    TransitionKind,
    batch_state,
)
from tests.builders import DATASET_ID, get_batch, get_dataset, get_log, new_document
from tests.clock import Clock
from tests.keeper.house import BATCH, House, live, open_house


async def add(house: House, *documents: str) -> None:
    """Add documents to the batch."""
    fresh: list[NewDocument] = [new_document(document) for document in documents]
    await house.submissions.add_documents(DATASET_ID, BATCH, fresh, visible=ALL)


async def batch(house: House) -> Batch:
    return await get_batch(house.store, BATCH)


async def kinds_of_batch(house: House) -> list[str]:
    log = await get_log(house.store, await batch(house))
    return [TransitionKind(entry.kind).name for entry in log if entry.document is None]


async def test_document_that_nobody_takes_stalls_and_never_fails(
    house: House, clock: Clock
) -> None:
    await house.create("a", stall_after_s=5, fail_after_s=5, start_after_s=60)
    await live(clock, 60, [house])
    assert not (await house.document("a")).stalled, "not before its time"
    await live(clock, 2, [house])
    overdue = await house.document("a")
    assert (overdue.state, overdue.stalled) == (DocumentState.PENDING, True)
    found = await batch(house)
    assert (found.counts.pending, found.counts.stalled) == (1, 1)
    assert batch_state(found) is BatchState.PENDING
    assert (await get_dataset(house.store)).counts == found.counts
    await live(clock, 600, [house])
    assert await house.kinds("a") == ["REGISTERED", "STALLED"]


@pytest.mark.parametrize("what", ["start", "stage", "pause", "fail", "stop"])
async def test_whatever_takes_or_moves_it_is_one_transition(
    house: House, clock: Clock, what: str
) -> None:
    await house.create("a", stall_after_s=0, start_after_s=10)
    await live(clock, 12, [house])
    match what:
        case "start":
            await house.start("a")
        case "stage":
            await house.report("a", Stage.PARSING)
        case "pause":
            await house.controls.pause(DATASET_ID, BATCH, "a", visible=ALL)
        case "fail":
            await house.fail("a")
        case _:
            await house.controls.stop(DATASET_ID, BATCH, "a", visible=ALL)
    assert not (await house.document("a")).stalled
    assert (await batch(house)).counts.stalled == 0
    assert "RECOVERED" not in await house.kinds("a")
    assert len(await house.kinds("a")) == 3


async def test_heartbeats_and_counters_do_not_take_a_document(house: House, clock: Clock) -> None:
    await house.create("a", stall_after_s=0, start_after_s=10)
    for second in range(12):
        await live(clock, 1, [house])
        await house.beat("a")
        await house.report("a", completed=second)
    assert await house.kinds("a") == ["REGISTERED", "STALLED"]
    await house.beat("a")
    await house.report("a", completed=50)
    assert (await house.document("a")).stalled
    assert await house.kinds("a") == ["REGISTERED", "STALLED"]


@pytest.mark.parametrize("again", ["retry", "resume"])
async def test_wait_begins_anew_with_retry_and_resume_and_rests_while_paused(
    house: House, clock: Clock, again: str
) -> None:
    await house.create("a", stall_after_s=0, start_after_s=10)
    await live(clock, 8, [house])
    if again == "retry":
        await house.fail("a")
        await live(clock, 60, [house])
        await house.controls.retry(DATASET_ID, BATCH, "", visible=ALL)
    else:
        await house.controls.pause(DATASET_ID, BATCH, "", visible=ALL)
        await live(clock, 60, [house])
        await house.controls.resume(DATASET_ID, BATCH, "", visible=ALL)
    await live(clock, 9, [house])
    assert not (await house.document("a")).stalled
    await live(clock, 3, [house])
    assert (await house.document("a")).stalled


async def test_time_without_a_server_does_not_count(path: Path, clock: Clock) -> None:
    async with open_house(path, clock) as house:
        await house.keeper.look()
        await house.create(
            "a", stall_after_s=0, start_after_s=10, seal_after_s=10, more_documents_follow=True
        )
        await house.create(
            stall_after_s=0, seal_after_s=10, more_documents_follow=True, batch_id="empty"
        )
        await live(clock, 5, [house])
        await house.keeper.release()
    clock.pass_time(3_600)
    async with open_house(path, clock) as house:
        await live(clock, 9, [house])
        assert not (await house.document("a")).stalled
        assert not (await get_batch(house.store, "empty")).sealed
        await live(clock, 4, [house])
        assert (await house.document("a")).stalled
        assert (await get_batch(house.store, "empty")).sealed


@pytest.mark.parametrize("hours", [-3, 3])
async def test_clock_that_jumps_neither_stalls_nor_seals_early_or_never(
    house: House, clock: Clock, hours: int
) -> None:
    await house.create(
        "a", stall_after_s=0, start_after_s=10, seal_after_s=10, more_documents_follow=True
    )
    await house.create(
        stall_after_s=0, seal_after_s=10, more_documents_follow=True, batch_id="empty"
    )
    await live(clock, 5, [house])
    clock.advance(3_600 * hours)
    await live(clock, 9, [house])
    assert not (await house.document("a")).stalled
    assert not (await get_batch(house.store, "empty")).sealed
    await live(clock, 4, [house])
    assert (await house.document("a")).stalled
    assert (await get_batch(house.store, "empty")).sealed


async def test_batch_that_nobody_goes_on_with_is_sealed(house: House, clock: Clock) -> None:
    await house.create("a", stall_after_s=0, seal_after_s=30, more_documents_follow=True)
    await house.report("a", Stage.COMPLETED)
    await live(clock, 28, [house])
    await add(house, "b")
    await house.report("b", Stage.COMPLETED)
    await live(clock, 29, [house])
    assert not (await batch(house)).sealed, "something was added meanwhile"
    await live(clock, 3, [house])
    sealed = await batch(house)
    assert (sealed.sealed, batch_state(sealed)) == (True, BatchState.SUCCEEDED)
    assert await kinds_of_batch(house) == ["CREATED", "SEALED"]
    with pytest.raises(BatchSealed):
        await add(house, "c")


async def test_open_document_keeps_a_batch_from_being_sealed(house: House, clock: Clock) -> None:
    await house.create("a", stall_after_s=0, seal_after_s=10, more_documents_follow=True)
    await house.start("a")
    await live(clock, 60, [house])
    assert not (await batch(house)).sealed
    await house.report("a", Stage.COMPLETED)
    await live(clock, 1, [house])
    assert (await batch(house)).sealed


@pytest.mark.parametrize("seal_after_s", [0, 10])
async def test_sealed_batch_and_one_without_seal_after_stay_as_they_are(
    house: House, clock: Clock, seal_after_s: float
) -> None:
    sealed = bool(seal_after_s)
    await house.create(stall_after_s=0, seal_after_s=seal_after_s, more_documents_follow=not sealed)
    before = await batch(house)
    await live(clock, 60, [house])
    assert await batch(house) == before


async def test_only_the_process_that_keeps_seals(pair: tuple[House, House], clock: Clock) -> None:
    one, other = pair
    for number in range(20):
        await one.create(
            stall_after_s=0, seal_after_s=5, more_documents_follow=True, batch_id=f"b{number}"
        )
    await live(clock, 8, [other, one])
    for number in range(20):
        found = await get_batch(one.store, f"b{number}")
        assert (found.sealed, found.revision) == (True, 2)
