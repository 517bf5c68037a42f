"""Documents that are never started stall, and idle batches are sealed; no others are."""

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
from tests.background.node import BATCH, Node, live, open_node
from tests.builders import DATASET_ID, get_batch, get_dataset, get_log, new_document
from tests.clock import Clock


async def add(node: Node, *documents: str) -> None:
    """Add documents to the batch."""
    new: list[NewDocument] = [new_document(document) for document in documents]
    await node.submissions.add_documents(DATASET_ID, BATCH, new, visible=ALL)


async def batch(node: Node) -> Batch:
    return await get_batch(node.store, BATCH)


async def kinds_of_batch(node: Node) -> list[str]:
    log = await get_log(node.store, await batch(node))
    return [TransitionKind(entry.kind).name for entry in log if entry.document is None]


async def test_document_that_is_never_started_stalls_and_never_fails(
    node: Node, clock: Clock
) -> None:
    await node.create("a", stall_after_s=5, fail_after_s=5, start_after_s=60)
    await live(clock, 60, [node])
    assert not (await node.document("a")).stalled, "not before its time"
    await live(clock, 2, [node])
    overdue = await node.document("a")
    assert (overdue.state, overdue.stalled) == (DocumentState.PENDING, True)
    actual = await batch(node)
    assert (actual.counts.pending, actual.counts.stalled) == (1, 1)
    assert batch_state(actual) is BatchState.PENDING
    assert (await get_dataset(node.store)).counts == actual.counts
    await live(clock, 600, [node])
    assert await node.kinds("a") == ["REGISTERED", "STALLED"]


@pytest.mark.parametrize("action", ["start", "stage", "pause", "fail", "stop"])
async def test_leaving_the_overdue_state_is_one_transition(
    node: Node, clock: Clock, action: str
) -> None:
    await node.create("a", stall_after_s=0, start_after_s=10)
    await live(clock, 12, [node])
    match action:
        case "start":
            await node.start("a")
        case "stage":
            await node.report("a", Stage.PARSING)
        case "pause":
            await node.controls.pause(DATASET_ID, BATCH, "a", visible=ALL)
        case "fail":
            await node.fail("a")
        case _:
            await node.controls.stop(DATASET_ID, BATCH, "a", visible=ALL)
    assert not (await node.document("a")).stalled
    assert (await batch(node)).counts.stalled == 0
    assert "RECOVERED" not in await node.kinds("a")
    assert len(await node.kinds("a")) == 3


async def test_heartbeats_and_counters_do_not_start_a_document(node: Node, clock: Clock) -> None:
    await node.create("a", stall_after_s=0, start_after_s=10)
    for second in range(12):
        await live(clock, 1, [node])
        await node.heartbeat("a")
        await node.report("a", completed=second)
    assert await node.kinds("a") == ["REGISTERED", "STALLED"]
    await node.heartbeat("a")
    await node.report("a", completed=50)
    assert (await node.document("a")).stalled
    assert await node.kinds("a") == ["REGISTERED", "STALLED"]


@pytest.mark.parametrize("again", ["retry", "resume"])
async def test_start_timer_restarts_at_retry_and_resume_and_stops_while_paused(
    node: Node, clock: Clock, again: str
) -> None:
    await node.create("a", stall_after_s=0, start_after_s=10)
    await live(clock, 8, [node])
    if again == "retry":
        await node.fail("a")
        await live(clock, 60, [node])
        await node.controls.retry(DATASET_ID, BATCH, "", visible=ALL)
    else:
        await node.controls.pause(DATASET_ID, BATCH, "", visible=ALL)
        await live(clock, 60, [node])
        await node.controls.resume(DATASET_ID, BATCH, "", visible=ALL)
    await live(clock, 9, [node])
    assert not (await node.document("a")).stalled
    await live(clock, 3, [node])
    assert (await node.document("a")).stalled


async def test_time_without_a_server_does_not_count(path: Path, clock: Clock) -> None:
    async with open_node(path, clock) as node:
        await node.detector.scan()
        await node.create(
            "a", stall_after_s=0, start_after_s=10, seal_after_s=10, more_documents_follow=True
        )
        await node.create(
            stall_after_s=0, seal_after_s=10, more_documents_follow=True, batch_id="empty"
        )
        await live(clock, 5, [node])
        await node.detector.release()
    clock.pass_time(3_600)
    async with open_node(path, clock) as node:
        await live(clock, 9, [node])
        assert not (await node.document("a")).stalled
        assert not (await get_batch(node.store, "empty")).sealed
        await live(clock, 4, [node])
        assert (await node.document("a")).stalled
        assert (await get_batch(node.store, "empty")).sealed


@pytest.mark.parametrize("hours", [-3, 3])
async def test_jump_of_the_clock_neither_hastens_nor_prevents_stall_and_seal(
    node: Node, clock: Clock, hours: int
) -> None:
    await node.create(
        "a", stall_after_s=0, start_after_s=10, seal_after_s=10, more_documents_follow=True
    )
    await node.create(
        stall_after_s=0, seal_after_s=10, more_documents_follow=True, batch_id="empty"
    )
    await live(clock, 5, [node])
    clock.advance(3_600 * hours)
    await live(clock, 9, [node])
    assert not (await node.document("a")).stalled
    assert not (await get_batch(node.store, "empty")).sealed
    await live(clock, 4, [node])
    assert (await node.document("a")).stalled
    assert (await get_batch(node.store, "empty")).sealed


async def test_idle_batch_is_sealed(node: Node, clock: Clock) -> None:
    await node.create("a", stall_after_s=0, seal_after_s=30, more_documents_follow=True)
    await node.report("a", Stage.COMPLETED)
    await live(clock, 28, [node])
    await add(node, "b")
    await node.report("b", Stage.COMPLETED)
    await live(clock, 29, [node])
    assert not (await batch(node)).sealed, "something was added meanwhile"
    await live(clock, 3, [node])
    sealed = await batch(node)
    assert (sealed.sealed, batch_state(sealed)) == (True, BatchState.SUCCEEDED)
    assert await kinds_of_batch(node) == ["CREATED", "SEALED"]
    with pytest.raises(BatchSealed):
        await add(node, "c")


async def test_open_document_keeps_a_batch_from_being_sealed(node: Node, clock: Clock) -> None:
    await node.create("a", stall_after_s=0, seal_after_s=10, more_documents_follow=True)
    await node.start("a")
    await live(clock, 60, [node])
    assert not (await batch(node)).sealed
    await node.report("a", Stage.COMPLETED)
    await live(clock, 1, [node])
    assert (await batch(node)).sealed


@pytest.mark.parametrize("seal_after_s", [0, 10])
async def test_sealed_batch_and_batch_without_seal_after_do_not_change(
    node: Node, clock: Clock, seal_after_s: float
) -> None:
    sealed = bool(seal_after_s)
    await node.create(stall_after_s=0, seal_after_s=seal_after_s, more_documents_follow=not sealed)
    before = await batch(node)
    await live(clock, 60, [node])
    assert await batch(node) == before


async def test_only_the_lease_holder_seals(pair: tuple[Node, Node], clock: Clock) -> None:
    one, other = pair
    for number in range(20):
        await one.create(
            stall_after_s=0, seal_after_s=5, more_documents_follow=True, batch_id=f"b{number}"
        )
    await live(clock, 8, [other, one])
    for number in range(20):
        actual = await get_batch(one.store, f"b{number}")
        assert (actual.sealed, actual.revision) == (True, 2)
