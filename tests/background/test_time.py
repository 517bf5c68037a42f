"""Downtime and jumps of the clock do not count as silence."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from stagecast.errors import StoreBusy
from stagecast.model import (
    ALL,
    DocumentState,
    HeartbeatItem,
    Report,
    Stage,
)
from tests.background.node import BATCH, Node, live, open_node
from tests.builders import DATASET_ID, get_batch
from tests.clock import Clock


async def test_downtime_gives_every_document_its_full_grace(path: Path, clock: Clock) -> None:
    async with open_node(path, clock) as node:
        await node.detector.scan()
        await node.create("runs", "stalls", stall_after_s=60, fail_after_s=30)
        await node.start("stalls")
        await live(clock, 40, [node])
        await node.start("runs")
        await live(clock, 45, [node])
        assert (await node.document("stalls")).stalled
    clock.pass_time(30 * 86_400)
    async with open_node(path, clock) as node:
        await live(clock, 30, [node])
        for name in ("runs", "stalls"):
            assert (await node.document(name)).state is DocumentState.RUNNING
        await live(clock, 8, [node])
        assert (await node.document("stalls")).state is DocumentState.FAILED
        await live(clock, 22, [node])
        assert not (await node.document("runs")).stalled
        await live(clock, 9, [node])
        assert (await node.document("runs")).stalled


async def test_time_in_which_all_processes_hung_does_not_count(
    pair: tuple[Node, Node], clock: Clock
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
    node: Node, clock: Clock
) -> None:
    await node.create("a", stall_after_s=10)
    await node.start("a")
    node.store.broken = True
    for _ in range(20):
        with contextlib.suppress(StoreBusy):
            await live(clock, 1, [node])
    node.store.broken = False
    await live(clock, 10, [node])
    assert not (await node.document("a")).stalled
    await live(clock, 2, [node])
    assert (await node.document("a")).stalled


@pytest.mark.parametrize("hours", [1, 24 * 365, -1, -24 * 365])
async def test_jump_of_the_clock_neither_causes_nor_prevents_a_stall(
    node: Node, clock: Clock, hours: float
) -> None:
    await node.create("a", "b", stall_after_s=60, fail_after_s=30)
    await node.start("a")
    await live(clock, 63, [node])
    await node.start("b")
    await live(clock, 20, [node])
    clock.advance(hours * 3_600)
    await live(clock, 29, [node])
    assert (await node.document("a")).state is DocumentState.RUNNING
    await live(clock, 4, [node])
    assert (await node.document("a")).state is DocumentState.FAILED
    assert not (await node.document("b")).stalled
    await live(clock, 30, [node])
    assert (await node.document("b")).stalled


@pytest.mark.parametrize("hours", [-1, -24 * 365])
async def test_clock_set_back_during_downtime_does_not_prevent_a_stall(
    path: Path, clock: Clock, hours: float
) -> None:
    async with open_node(path, clock) as node:
        await node.detector.scan()
        await node.create("a", stall_after_s=60)
        await node.start("a")
        await live(clock, 10, [node])
    clock.advance(hours * 3_600)
    async with open_node(path, clock) as node:
        await live(clock, 60, [node])
        assert not (await node.document("a")).stalled
        await live(clock, 9, [node])
        assert (await node.document("a")).stalled


async def test_clock_set_back_while_there_are_no_timers_does_not_delay_the_seal(
    node: Node, clock: Clock
) -> None:
    await live(clock, 7_200, [node])
    await node.create("a", stall_after_s=0, seal_after_s=60, more_documents_follow=True)
    await live(clock, 30, [node])
    clock.advance(-3_600)
    await live(clock, 30, [node])
    await node.report("a", Stage.COMPLETED)
    await live(clock, 63, [node])
    assert (await get_batch(node.store, BATCH)).sealed


async def test_sign_of_life_after_the_clock_was_set_back_counts(node: Node, clock: Clock) -> None:
    await node.create("a", "b", stall_after_s=60)
    await node.start("a", "b")
    clock.advance(-3_600)
    await node.heartbeat("a")
    await node.report("b", Stage.PARSING)
    await live(clock, 50, [node])
    await node.heartbeat("a")
    await live(clock, 12, [node])
    assert (await node.kinds("b"))[-1] == "STALLED"
    assert (await node.kinds("a"))[-1] == "STARTED"
    await live(clock, 50, [node])
    assert (await node.kinds("a"))[-1] == "STALLED"


async def test_clock_set_back_during_a_scan_stalls_nothing(path: Path, clock: Clock) -> None:
    """The report came before the scan could write, and seems to be long ago."""
    async with open_node(path, clock) as one, open_node(path, clock) as other:
        await one.detector.scan()
        await one.create("a", stall_after_s=60)
        await one.start("a")
        await live(clock, 60, [one])
        clock.pass_time(2)
        one.store.unblocked.clear()
        scanning = asyncio.ensure_future(one.detector.scan())
        async with asyncio.timeout(60):
            await one.store.waiting.wait()
        clock.advance(-3_600)
        await other.report("a", Stage.PARSING)
        one.store.unblocked.set()
        await scanning
        assert not (await one.document("a")).stalled


async def test_heartbeat_waiting_for_the_same_lock_as_the_scan_counts(
    pair: tuple[Node, Node], clock: Clock
) -> None:
    """A third process holds the lock; the scan gets it before the process with the heartbeat."""
    holder, serving = pair
    await holder.create("a", stall_after_s=10)
    await holder.start("a")
    await live(clock, 9, [holder])
    clock.pass_time(0.9)
    await serving.heartbeats.record(
        DATASET_ID, BATCH, [HeartbeatItem(document_id="a", attempt=0)], visible=ALL
    )
    clock.pass_time(1.2)
    holder.store.unblocked.clear()
    scanning = asyncio.ensure_future(holder.detector.scan())
    async with asyncio.timeout(60):
        await holder.store.waiting.wait()
    clock.pass_time(2)
    holder.store.unblocked.set()
    await scanning
    await serving.heartbeats.flush()
    await live(clock, 9, [holder])
    assert await holder.kinds("a") == ["REGISTERED", "STARTED"]
    await live(clock, 3, [holder])
    assert (await holder.kinds("a"))[-1] == "STALLED"


async def test_stall_is_detected_although_each_scan_waits_for_the_lock(
    node: Node, clock: Clock
) -> None:
    await node.create("a", stall_after_s=10)
    await node.start("a")
    for _ in range(11):
        clock.pass_time(1)
        node.store.unblocked.clear()
        node.store.waiting.clear()
        scanning = asyncio.ensure_future(node.detector.scan())
        waiting = asyncio.ensure_future(node.store.waiting.wait())
        async with asyncio.timeout(60):
            await asyncio.wait((scanning, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        clock.pass_time(1.5)
        node.store.unblocked.set()
        await scanning
    assert (await node.kinds("a"))[-1] == "STALLED"


async def test_many_timers_are_set_back_in_small_steps(node: Node, clock: Clock) -> None:
    names = [f"doc-{number}" for number in range(700)]
    await node.create(*names, stall_after_s=60)
    reports = [Report(document_id=name, stage=Stage.PARSING) for name in names]
    await node.reports.report(DATASET_ID, BATCH, reports, visible=ALL)
    await live(clock, 3, [node])
    clock.advance(-3_600)
    before = node.store.writes
    await node.detector.scan()
    assert node.store.writes - before >= 3
    timers = await node.timers()
    assert len(timers) == 700
    assert max(timer.due_at for timer in timers) == clock.now_us + 60_000_000
    assert (await node.lease()).reached_at == clock.now_us
    before = node.store.writes
    await live(clock, 3, [node])
    assert node.store.writes - before <= 2, "only renewals; the timers were set back once"
