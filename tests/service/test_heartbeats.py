"""Heartbeats are merged, written together soon after, and never lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from stagecast.errors import BatchNotFound, StoreBusy
from stagecast.model import ALL, HeartbeatItem, Stage, WorkerOrder
from stagecast.service import heartbeats as heartbeats_module
from tests.background.node import BATCH, Node, live, open_node
from tests.builders import DATASET_ID
from tests.clock import Clock


@pytest.fixture
async def node(tmp_path: Path, clock: Clock) -> AsyncIterator[Node]:
    async with open_node(tmp_path / "stagecast.db", clock) as node:
        await node.detector.scan()
        yield node


async def _heard(node: Node) -> dict[tuple[str, str], int]:
    """Return the time of the last sign of life of each timed document, by batch and document."""
    return {(timer.batch_id, timer.document_id): timer.heard_at for timer in await node.timers()}


async def _send(node: Node, *document_ids: str, batch_id: str = BATCH, attempt: int = 0) -> None:
    """Send a heartbeat, which is only merged."""
    heartbeats = [
        HeartbeatItem(document_id=document_id, attempt=attempt) for document_id in document_ids
    ]
    await node.heartbeats.record(DATASET_ID, batch_id, heartbeats, visible=ALL)


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            pass


async def test_heartbeats_of_all_batches_are_one_write(node: Node, clock: Clock) -> None:
    names = [f"doc-{number}" for number in range(40)]
    for batch_id in ("one", "two", "three"):
        await node.create(*names, stall_after_s=60, batch_id=batch_id)
        await node.start(*names, batch_id=batch_id)
    clock.pass_time(2)
    before = node.store.writes
    for _ in range(5):
        for batch_id in ("one", "two", "three"):
            await _send(node, *names, batch_id=batch_id)
    assert node.store.writes == before, "they are only merged"
    await node.heartbeats.flush()
    assert node.store.writes == before + 1
    assert set((await _heard(node)).values()) == {clock.now_us}


async def test_heartbeat_right_after_another_sign_of_life_writes_nothing(
    node: Node, clock: Clock
) -> None:
    await node.create("a", stall_after_s=60)
    await node.start("a")
    await node.report("a", Stage.PARSING)
    before = node.store.writes
    clock.pass_time(0.9)
    assert await node.heartbeat("a") == [WorkerOrder.GO_ON]
    assert node.store.writes == before
    clock.pass_time(0.2)
    assert await node.heartbeat("a") == [WorkerOrder.GO_ON]
    assert node.store.writes == before + 1


async def test_heartbeats_of_documents_that_cannot_stall_write_nothing(
    node: Node, clock: Clock
) -> None:
    await node.create("new", "paused", "ended", stall_after_s=60)
    await node.start("paused", "ended")
    await node.controls.pause(DATASET_ID, BATCH, "paused", visible=ALL)
    await node.report("ended", Stage.COMPLETED)
    await node.create("a", stall_after_s=0, batch_id="untimed")
    await node.start("a", batch_id="untimed")
    clock.pass_time(10)
    before = node.store.writes
    await _send(node, "new", "paused", "ended", "nope")
    await _send(node, "a", batch_id="untimed")
    await node.heartbeats.flush()
    assert node.store.writes == before


async def test_outdated_heartbeats_do_not_lose_others(node: Node, clock: Clock) -> None:
    """Meanwhile one batch is deleted, one document ends and one is taken over."""
    await node.create("a", "b", "c", stall_after_s=60)
    await node.start("a", "b", "c")
    await node.create("x", stall_after_s=60, batch_id="deleted")
    await node.start("x", batch_id="deleted")
    clock.pass_time(2)
    await _send(node, "x", batch_id="deleted")
    await _send(node, "a", "b", "c")
    sent_at = clock.now_us
    await node.controls.delete_batch(DATASET_ID, "deleted", visible=ALL)
    await node.report("a", Stage.COMPLETED)
    await node.start("b", worker="w2")
    clock.pass_time(2)
    await node.heartbeats.flush()
    heard = await _heard(node)
    assert heard[BATCH, "b"] == sent_at, "its start; the heartbeat was of the previous attempt"
    assert heard[BATCH, "c"] == clock.now_us


async def test_heartbeats_survive_a_store_that_cannot_be_written(node: Node, clock: Clock) -> None:
    names = [f"doc-{number}" for number in range(2_500)]
    await node.create(*names, stall_after_s=3_600)
    for first in range(0, 2_500, 1_000):
        await node.start(*names[first : first + 3])
    clock.pass_time(2)
    started = [timer.document_id for timer in await node.timers()]
    node.store.broken = True
    await _send(node, *started)
    with pytest.raises(StoreBusy):
        await node.heartbeats.flush()
    node.store.broken = False
    await node.heartbeats.flush()
    assert set((await _heard(node)).values()) == {clock.now_us}


async def test_heartbeats_are_written_in_the_background_also_after_a_fault(
    node: Node, clock: Clock
) -> None:
    await node.create("a", stall_after_s=60)
    await node.start("a")
    writing = asyncio.create_task(node.heartbeats.run())
    for broken in (False, True):
        clock.pass_time(2)
        node.store.broken = broken
        before = node.store.writes
        await _send(node, "a")

        async def tried(before: int = before) -> bool:
            await asyncio.sleep(0)
            return node.store.writes > before

        await _until(tried)
        node.store.broken = False

        async def written() -> bool:
            return (await _heard(node))[BATCH, "a"] == clock.now_us

        await _until(written)
    writing.cancel()


async def test_interrupted_write_of_heartbeats_is_repeated_by_flush(
    node: Node, clock: Clock
) -> None:
    await node.create("a", stall_after_s=60)
    await node.start("a")
    clock.pass_time(2)
    node.store.unblocked.clear()
    await _send(node, "a")
    writing = asyncio.create_task(node.heartbeats.run())
    async with asyncio.timeout(60):
        await node.store.waiting.wait()
    writing.cancel()
    await asyncio.wait((writing,))
    node.store.unblocked.set()
    await node.heartbeats.flush()
    assert (await _heard(node))[BATCH, "a"] == clock.now_us


async def test_heartbeats_beyond_the_limit_wait_or_fail(
    node: Node, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats_module, "_MAX_ITEMS", 3)
    names = ["a", "b", "c", "d", "e"]
    await node.create(*names, stall_after_s=60)
    await node.start(*names)
    clock.pass_time(2)
    await _send(node, "a", "b", "c")
    node.store.broken = True
    with pytest.raises(StoreBusy):
        await _send(node, "d")
    node.store.broken = False
    await _send(node, "e")
    clock.pass_time(2)
    await node.heartbeats.flush()
    heard = await _heard(node)
    early = {key for key, heard_at in heard.items() if heard_at == clock.now_us - 2_000_000}
    assert early == {(BATCH, "a"), (BATCH, "b"), (BATCH, "c")}, "they were written to make room"
    assert heard[BATCH, "e"] == clock.now_us


async def test_heartbeat_of_an_unknown_batch_is_refused(node: Node) -> None:
    with pytest.raises(BatchNotFound):
        await _send(node, "a", batch_id="nope")


async def test_heartbeat_at_one_process_reaches_the_detector_of_another(
    node: Node, tmp_path: Path, clock: Clock
) -> None:
    """Also one that is merged at the last moment, and not yet written during the scan."""
    async with open_node(tmp_path / "stagecast.db", clock) as other:
        await node.create("a", "b", stall_after_s=10)
        await node.start("a", "b")
        await live(clock, 9.9, [node, other])
        await _send(other, "a")
        await live(clock, 0.4, [node])
        await other.heartbeats.flush()
        await live(clock, 1, [node])
        assert (await node.document("b")).stalled
        assert not (await node.document("a")).stalled
        await live(clock, 9, [node])
        assert "STALLED" not in await node.kinds("a")
