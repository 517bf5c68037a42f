"""The lease of the stall detector: held by one process at a time, taken over after its death."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import pytest

from stagecast import app
from stagecast.errors import StoreBusy
from stagecast.model import ALL, Report, Stage
from stagecast.store.sqlite import connection
from stagecast.store.sqlite import store as store_module
from tests.background.node import Node, live, open_node
from tests.builders import DATASET_ID
from tests.clock import Clock


async def test_only_one_of_many_processes_holds_the_lease(path: Path, clock: Clock) -> None:
    async with contextlib.AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(open_node(path, clock)) for _ in range(4)]
        await nodes[0].create("a", stall_after_s=3_600)
        await nodes[0].start("a")
        for _ in range(5):
            await asyncio.gather(*(node.detector.scan() for node in nodes))
        first = await nodes[0].lease()
        for _ in range(20):
            clock.pass_time(1)
            await asyncio.gather(*(node.detector.scan() for node in nodes))
        last = await nodes[0].lease()
        assert last.holder == first.holder != 0
        assert last.renewals == first.renewals + 10, (
            "one renewal in two seconds, with any number of processes"
        )


async def test_lease_without_timers_is_kept_and_renewed_only_when_there_are_some(
    pair: tuple[Node, Node], clock: Clock
) -> None:
    """An idle server writes nothing, and its holder is right at once when it has work."""
    one, other = pair
    await live(clock, 1, [one])
    idle = await one.lease()
    await live(clock, 60, pair)
    assert await one.lease() == idle
    await other.create("a", stall_after_s=10)
    await other.start("a")
    await live(clock, 9, pair)
    lease = await one.lease()
    assert (lease.holder, lease.renewals > idle.renewals) == (idle.holder, True)
    assert not (await one.document("a")).stalled
    await live(clock, 3, pair)
    assert (await one.document("a")).stalled, "its grace did not restart"


async def test_dead_holder_is_replaced_once_there_are_timers(
    pair: tuple[Node, Node], clock: Clock
) -> None:
    one, other = pair
    await live(clock, 60, pair)
    holder = (await one.lease()).holder
    dead, alive = (one, other) if one.detector._id == holder else (other, one)
    await live(clock, 60, [alive])
    await alive.create("a", stall_after_s=10)
    await alive.start("a")
    await live(clock, 9, [alive])
    assert (await alive.lease()).holder == alive.detector._id
    assert not (await alive.document("a")).stalled
    await live(clock, 3, [alive])
    assert (await alive.document("a")).stalled, "its grace did not restart"
    await live(clock, 9, [dead, alive])
    assert (await alive.lease()).holder == alive.detector._id


async def test_slower_of_two_processes_does_not_take_the_lease(path: Path, clock: Clock) -> None:
    async with open_node(path, clock) as one, open_node(path, clock) as other:
        other.store.unblocked.clear()
        slower = asyncio.ensure_future(other.detector.scan())
        async with asyncio.timeout(60):
            await other.store.waiting.wait()
        await one.detector.scan()
        lease = await one.lease()
        other.store.unblocked.set()
        await slower
        assert await one.lease() == lease


async def test_released_lease_is_free_at_once(pair: tuple[Node, Node], clock: Clock) -> None:
    one, other = pair
    await one.create("a", stall_after_s=10)
    await one.start("a")
    await live(clock, 5, pair)
    await one.detector.release()
    await live(clock, 10, [other])
    assert not (await other.document("a")).stalled, "its grace restarted"
    await live(clock, 3, [other])
    assert (await other.document("a")).stalled


async def test_lease_is_released_although_the_last_heartbeats_are_refused(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> None:
        raise StoreBusy("full", retry_after_s=1)

    monkeypatch.setattr(node.heartbeats, "flush", refuse)
    assert (await node.lease()).holder != 0
    await app._hand_over(node.heartbeats, node.detector)
    assert (await node.lease()).holder == 0


async def test_release_without_the_lease_does_nothing(
    pair: tuple[Node, Node], clock: Clock
) -> None:
    one, other = pair
    before = await one.lease()
    await other.detector.release()
    assert await one.lease() == before


async def test_dead_or_hanging_holder_is_replaced_after_some_seconds(
    pair: tuple[Node, Node], clock: Clock
) -> None:
    one, other = pair
    await one.create("a", stall_after_s=10)
    await one.start("a")
    await live(clock, 4, pair)
    first = await one.lease()
    await live(clock, 5, [other])
    assert (await one.lease()).holder == first.holder
    await live(clock, 2, [other])
    second = await one.lease()
    assert second.holder not in (0, first.holder)
    await live(clock, 20, pair)
    assert (await one.lease()).holder == second.holder, "the former holder does not take it back"
    assert (await one.document("a")).stalled


async def test_holder_that_hung_during_a_scan_changes_nothing(path: Path, clock: Clock) -> None:
    """Its write waits while another process takes the lease."""
    async with open_node(path, clock) as one, open_node(path, clock) as other:
        await one.detector.scan()
        await one.create("a", stall_after_s=10)
        await one.start("a")
        await live(clock, 10, [one, other])
        before = await one.lease()
        clock.pass_time(2)
        one.store.unblocked.clear()
        hanging = asyncio.ensure_future(one.detector.scan())
        async with asyncio.timeout(60):
            await one.store.waiting.wait()
        await live(clock, 7, [other])
        assert (await other.lease()).holder != before.holder
        new_lease = await other.lease()
        one.store.unblocked.set()
        await hanging
        assert await other.lease() == new_lease
        assert not (await one.document("a")).stalled, "its grace restarted"


async def test_scan_with_nothing_due_reads_no_documents(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither readers nor the writer do more for 5,000 open documents than for one."""
    written: list[str] = []
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def reader(path: Path) -> connection.Connection:
        opened = connection.open_reader(path)
        opened.set_progress_handler(count, 1)
        return opened

    def writer(path: Path) -> connection.Connection:
        opened = connection.open_writer(path)
        opened.set_trace_callback(written.append)
        return opened

    monkeypatch.setattr(store_module, "open_reader", reader)
    monkeypatch.setattr(store_module, "open_writer", writer)

    async def steps_of_a_scan(node: Node) -> int:
        """Return the minimum of several scans: the first on a thread also reads the schema."""
        written.clear()
        minimum = sys.maxsize
        for _ in range(12):
            before = steps
            clock.pass_time(1)
            await node.detector.scan()
            minimum = min(minimum, steps - before)
        return minimum

    async with open_node(path, clock) as node:
        await node.detector.scan()
        await node.create("a", stall_after_s=3_600)
        await node.start("a")
        of_one = await steps_of_a_scan(node)
        names = [f"doc-{number}" for number in range(5_000)]
        await node.create(*names, stall_after_s=3_600, batch_id="large")
        reports = [Report(document_id=name, stage=Stage.PARSING) for name in names]
        await node.reports.report(DATASET_ID, "large", reports, visible=ALL)
        assert await steps_of_a_scan(node) == of_one > 0
        assert not [sql for sql in written if "documents" in sql]
        assert [sql for sql in written if "stall_detector_lease" in sql], "it renews the lease"
