"""Silent documents stall, then fail; no other document does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from stagecast.errors import StaleAttempt
from stagecast.model import (
    ALL,
    DocumentCounts,
    DocumentState,
    Report,
    Stage,
    TransitionKind,
    WorkerOrder,
)
from tests.background.node import BATCH, Node, live
from tests.builders import DATASET_ID, get_batch, get_dataset, get_log
from tests.clock import Clock


async def test_silent_document_stalls_then_fails_as_lost(node: Node, clock: Clock) -> None:
    await node.create("a", stall_after_s=60, fail_after_s=30)
    await node.start("a")
    await live(clock, 60, [node])
    assert not (await node.document("a")).stalled, "not before its time"
    await live(clock, 2, [node])
    stalled = await node.document("a")
    assert (stalled.state, stalled.stalled) == (DocumentState.RUNNING, True)
    await live(clock, 29, [node])
    assert (await node.document("a")).state is DocumentState.RUNNING
    await live(clock, 4, [node])
    lost = await node.document("a")
    assert (lost.state, lost.stalled) == (DocumentState.FAILED, False)
    assert lost.error is not None
    assert lost.error.reason == "WORKER_LOST"
    assert lost.stopped_at is not None
    await live(clock, 200, [node])
    assert await node.kinds("a") == ["REGISTERED", "STARTED", "STALLED", "FAILED"]


@pytest.mark.parametrize("sign", ["heartbeat", "repeat", "progress", "stage", "start"])
async def test_sign_of_life_keeps_a_document_from_stalling(
    node: Node, clock: Clock, sign: str
) -> None:
    await node.create("a", stall_after_s=10)
    await node.start("a")
    for number, stage in enumerate((Stage.PARSING, Stage.CLEANING, Stage.SPLITTING), 1):
        await live(clock, 8, [node])
        match sign:
            case "heartbeat":
                await node.heartbeat("a")
            case "repeat":
                await node.report("a", Stage.WAITING)
            case "progress":
                await node.report("a", completed=number)
            case "stage":
                await node.report("a", stage)
            case _:
                await node.start("a")
    await live(clock, 9, [node])
    assert "STALLED" not in await node.kinds("a")
    await live(clock, 3, [node])
    assert (await node.kinds("a"))[-1] == "STALLED"


@pytest.mark.parametrize("sign", ["heartbeat", "repeat", "progress", "start"])
async def test_stalled_document_recovers_by_a_sign_of_life(
    node: Node, clock: Clock, sign: str
) -> None:
    """With and without a timer for its failure."""
    for fail_after_s in (0, 100):
        batch_id = f"b{fail_after_s}"
        await node.create("a", stall_after_s=10, fail_after_s=fail_after_s, batch_id=batch_id)
        await node.start("a", batch_id=batch_id)
        await live(clock, 12, [node])
        match sign:
            case "heartbeat":
                await node.heartbeat("a", batch_id=batch_id)
            case "repeat":
                await node.report("a", Stage.WAITING, batch_id=batch_id)
            case "progress":
                await node.report("a", completed=1, batch_id=batch_id)
            case _:
                await node.start("a", batch_id=batch_id)
        assert (await node.kinds("a", batch_id))[-2:] == ["STALLED", "RECOVERED"]
        await live(clock, 10, [node])
        assert (await node.kinds("a", batch_id))[-1] == "RECOVERED"
        await live(clock, 2, [node])
        assert (await node.kinds("a", batch_id))[-1] == "STALLED", "its timer restarted"


async def test_paused_document_does_not_stall_and_resume_restarts_its_timer(
    node: Node, clock: Clock
) -> None:
    await node.create("a", stall_after_s=10, fail_after_s=10)
    await node.start("a")
    await live(clock, 9, [node])
    await node.controls.pause(DATASET_ID, BATCH, "a", visible=ALL)
    await live(clock, 100, [node])
    await node.controls.resume(DATASET_ID, BATCH, "a", visible=ALL)
    await live(clock, 10, [node])
    assert await node.kinds("a") == ["REGISTERED", "STARTED", "PAUSED", "RESUMED"]
    await live(clock, 2, [node])
    assert (await node.kinds("a"))[-1] == "STALLED"


async def test_document_that_is_not_running_never_stalls(node: Node, clock: Clock) -> None:
    await node.create("pending", "retried", "ended", "last", stall_after_s=5, fail_after_s=5)
    await node.start("retried", "ended")
    await node.report("ended", Stage.COMPLETED)
    await node.controls.stop(DATASET_ID, BATCH, "retried", visible=ALL)
    await node.controls.retry(DATASET_ID, BATCH, "retried", visible=ALL)
    before = [await node.kinds(name) for name in ("pending", "retried", "ended")]
    await live(clock, 60, [node])
    assert [await node.kinds(name) for name in ("pending", "retried", "ended")] == before
    await node.start("retried")
    await live(clock, 7, [node])
    assert (await node.document("retried")).stalled, "it is timed once it has started again"


@pytest.mark.parametrize(("stall_after_s", "fail_after_s"), [(0, 0), (0, 5)])
async def test_document_without_stall_after_never_stalls(
    node: Node, clock: Clock, stall_after_s: float, fail_after_s: float
) -> None:
    await node.create("a", stall_after_s=stall_after_s, fail_after_s=fail_after_s)
    await node.start("a")
    await live(clock, 100, [node])
    assert await node.kinds("a") == ["REGISTERED", "STARTED"]


async def test_stalled_document_never_fails_without_fail_after(node: Node, clock: Clock) -> None:
    await node.create("a", stall_after_s=5)
    await node.start("a")
    await live(clock, 200, [node])
    assert (await node.document("a")).stalled
    assert await node.kinds("a") == ["REGISTERED", "STARTED", "STALLED"]


async def test_heartbeat_of_an_old_attempt_keeps_nothing_alive(node: Node, clock: Clock) -> None:
    await node.create("a", stall_after_s=10)
    await node.start("a", worker="w1")
    await node.start("a", worker="w2")
    for _ in range(3):
        await live(clock, 4, [node])
        assert await node.heartbeat("a", attempt=1) == [WorkerOrder.DROP]
    assert (await node.document("a")).stalled
    assert await node.heartbeat("a", attempt=1) == [WorkerOrder.DROP]
    assert (await node.document("a")).stalled
    assert await node.heartbeat("a", attempt=2) == [WorkerOrder.GO_ON]
    assert not (await node.document("a")).stalled


async def test_refused_report_keeps_nothing_alive(node: Node, clock: Clock) -> None:
    await node.create("a", "b", stall_after_s=10)
    await node.start("a", worker="w1")
    await node.start("a", worker="w2")
    await live(clock, 9, [node])
    repeat, stale = (
        Report(document_id="a", attempt=attempt, stage=Stage.WAITING) for attempt in (2, 1)
    )
    with pytest.raises(StaleAttempt):
        await node.reports.report(DATASET_ID, BATCH, [repeat, stale], visible=ALL)
    await live(clock, 2, [node])
    assert (await node.document("a")).stalled, "all of the call was refused"


async def test_counts_follow_stalls_and_failures(node: Node, clock: Clock) -> None:
    await node.create("a", "b", "c", stall_after_s=5, fail_after_s=5)
    await node.start("a", "b", "c")
    await live(clock, 6, [node])
    await node.heartbeat("b")
    await live(clock, 1, [node])
    batch, dataset = await get_batch(node.store, BATCH), await get_dataset(node.store)
    assert batch.counts == dataset.counts == DocumentCounts(running=3, stalled=2)
    await node.report("b", Stage.COMPLETED)
    await live(clock, 7, [node])
    batch, dataset = await get_batch(node.store, BATCH), await get_dataset(node.store)
    assert batch.counts == dataset.counts == DocumentCounts(succeeded=1, failed=2)
    assert batch.ended_at is not None


@pytest.mark.parametrize("sweeps", [True, False])
async def test_deleted_batch_with_due_documents_is_skipped(
    node: Node, clock: Clock, sweeps: bool
) -> None:
    await node.create("a", "b", stall_after_s=5)
    await node.start("a", "b")
    await node.create("c", stall_after_s=5, batch_id="other")
    await node.start("c", batch_id="other")
    await live(clock, 5, [node])
    await node.controls.delete_batch(DATASET_ID, BATCH, visible=ALL)
    if sweeps:
        await node.store.write(lambda tx: tx.sweep(100), visible=ALL)
        await node.store.write(lambda tx: tx.sweep(1), visible=ALL)
    await live(clock, 2, [node])
    assert (await node.kinds("c", "other"))[-1] == "STALLED"
    assert await node.timers() == []
    while await node.store.write(lambda tx: tx.sweep(100), visible=ALL):
        pass


async def test_due_documents_of_a_batch_share_a_call_in_small_steps(
    node: Node, clock: Clock
) -> None:
    names = [f"doc-{number}" for number in range(700)]
    await node.create(*names, stall_after_s=60)
    reports = [Report(document_id=name, stage=Stage.PARSING) for name in names]
    await node.reports.report(DATASET_ID, BATCH, reports, visible=ALL)
    await node.create("x", stall_after_s=60, batch_id="other")
    await node.start("x", batch_id="other")
    await live(clock, 62, [node])
    log = await get_log(node.store, await get_batch(node.store, BATCH))
    stalled = [entry for entry in log if entry.kind is TransitionKind.STALLED]
    assert [entry.document.document_id for entry in stalled if entry.document] == names
    calls = Counter(entry.write_id for entry in stalled)
    assert list(calls.values()) == [300, 300, 100]
    assert (await node.kinds("x", "other"))[-1] == "STALLED"
    assert await node.timers() == []


async def test_idle_detector_reads_only_what_somebody_may_have_changed(
    node: Node, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It renews its lease every other second, and so reads as often."""
    reads = 0
    read = node.store.read

    async def count(*args: Any, **kwargs: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*args, **kwargs)

    await node.create("a", stall_after_s=15)
    await node.start("a")
    monkeypatch.setattr(node.store, "read", count)
    await live(clock, 10, [node])
    assert reads <= 6
    await live(clock, 10, [node])
    assert (await node.document("a")).stalled
