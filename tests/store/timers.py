"""Contract of stores: timers of silence and waiting, and the lease."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from typing import Any

import pytest

from stagecast.errors import IllegalTransition
from stagecast.model import (
    ALL,
    Stage,
    Timer,
    pause,
    recover,
    resume,
    retry,
    stall,
    start_attempt,
    stop,
    timeout_us,
)
from stagecast.store import Lease, Store, TimerKey, Topic, WriteTransaction
from stagecast.store import get_batch as find_batch
from tests.builders import (
    BATCH_ID,
    DATASET_ID,
    Move,
    counted,
    create,
    edit_of,
    get_batch,
    get_documents,
    move,
    register_documents,
    report_of,
    started,
)
from tests.clock import START_US, Clock

START_AFTER_US, STALL_US, FAIL_US = 90_000_000, 60_000_000, 20_000_000

stalled: Move = lambda actual, _: stall(actual)  # noqa: E731 - one of a list of moves
recovered: Move = lambda actual, _: recover(actual)  # noqa: E731
paused: Move = lambda actual, now: pause(actual, now=now)  # noqa: E731
resumed: Move = lambda actual, _: resume(actual)  # noqa: E731
stopped: Move = lambda actual, now: stop(actual, now=now)  # noqa: E731
retried: Move = lambda actual, _: retry(actual)  # noqa: E731
started_by_another: Move = lambda actual, now: start_attempt(actual, "another", now=now)  # noqa: E731
entered, ended = report_of(stage=Stage.INDEXING), report_of(stage=Stage.COMPLETED)

# Moves, and the timeout of the document after them.
MOVES: dict[str, tuple[list[Move], int]] = {
    "registered": ([], START_AFTER_US),
    "overdue": ([stalled], 0),
    "started_when_overdue": ([stalled, started], STALL_US),
    "paused_when_overdue": ([stalled, paused], 0),
    "resumed_when_overdue": ([stalled, paused, resumed], START_AFTER_US),
    "started": ([started], STALL_US),
    "reported": ([entered], STALL_US),
    "counted": ([started, report_of(progress=counted(3))], STALL_US),
    "stalled": ([started, stalled], FAIL_US),
    "recovered": ([started, stalled, recovered], STALL_US),
    "recovered_by_a_stage": ([started, stalled, entered], STALL_US),
    "started_by_another_when_stalled": ([started, stalled, started_by_another], STALL_US),
    "paused": ([started, paused], 0),
    "paused_when_stalled": ([started, stalled, paused], 0),
    "resumed": ([started, paused, resumed], STALL_US),
    "resumed_before_it_began": ([paused, resumed], START_AFTER_US),
    "ended": ([started, ended], 0),
    "stopped_when_stalled": ([started, stalled, stopped], 0),
    "retried": ([started, ended, retried], START_AFTER_US),
    "retried_and_started": ([started, ended, retried, started], STALL_US),
}


async def timers(
    store: Store, *, until: int | None = None, after: TimerKey | None = None, maximum: int = 1_000
) -> Sequence[Timer]:
    return await store.write(
        lambda tx: tx.find_timers(until=until, after=after, limit=maximum), visible=ALL
    )


async def send_heartbeats(store: Store, *numbers: int) -> None:
    """Record signs of life of documents, without other changes."""

    def call(tx: WriteTransaction) -> None:
        edit = edit_of(tx, find_batch(tx, DATASET_ID, BATCH_ID))
        for actual in tx.find_documents(
            edit.batch, {f"doc-{number}" for number in numbers}
        ).values():
            edit.record_heartbeat(actual)
        tx.save(edit)

    await store.write(call, visible=ALL)


async def make(store: Store, documents: int = 1, **changes: Any) -> Any:
    timeout = {"stall_after_us": STALL_US, "fail_after_us": FAIL_US}
    return await create(store, documents=documents, **timeout | changes)


async def idle(store: Store, until: int, *, limit: int = 1_000) -> list[str]:
    """Return the batches to seal at a time."""
    actual = await store.read(lambda tx: [*tx.find_idle(until, limit)], visible=ALL)
    return [one.batch.batch_id for one in actual]


def delete(tx: WriteTransaction, what: str) -> None:
    if what == "batch":
        tx.delete_batches([find_batch(tx, DATASET_ID, BATCH_ID)])
    else:
        dataset = tx.find_dataset(DATASET_ID)
        assert dataset is not None
        tx.delete_dataset(dataset)


IDLE: dict[str, dict[str, Any]] = {
    "twenty": {"seal_after_us": 20_000_000},
    "ten": {},
    "sealed": {"sealed": True},
    "working": {"documents": 1},
    "no_timeout": {"seal_after_us": 0},
}


async def next_due(store: Store) -> int | None:
    return await store.read(lambda tx: tx.find_next_due(), visible=ALL)


class TimersContract:
    """A part of `StoreContract`."""

    @pytest.mark.parametrize("name", MOVES)
    async def test_timer_starts_at_the_last_move(
        self, store: Store, clock: Clock, name: str
    ) -> None:
        """With one call for each move, and one for all."""
        moves, timeout = MOVES[name]
        batch = await make(store, documents=2, start_after_us=START_AFTER_US)
        for step in moves:
            clock.advance(1)
            await move(store, batch, (0, step))
        if moves:
            await move(store, batch, *[(1, step) for step in moves])
        actual = await timers(store)
        timed = sorted(timer.document_id for timer in actual)
        assert timed == (["doc-0", "doc-1"] if timeout else [])
        for timer in actual:
            assert (timer.dataset_id, timer.batch_id) == (DATASET_ID, BATCH_ID)
            assert timer.heard_at == clock.now_us
            assert timer.timeout_us == timeout
            assert timer.due_at == timer.key[0] <= clock.now_us + timeout

    @pytest.mark.parametrize("name", ["registered", "retried", "started", "stalled", "recovered"])
    async def test_batch_without_timeouts_has_no_timers(self, store: Store, name: str) -> None:
        batch = await make(store, stall_after_us=0, fail_after_us=0)
        for step in MOVES[name][0]:
            await move(store, batch, (0, step))
        assert await timers(store) == []

    @pytest.mark.parametrize("seed", range(10))
    async def test_timer_is_never_later_than_its_deadline(
        self, store: Store, clock: Clock, seed: int
    ) -> None:
        chance = random.Random(seed)
        names = ("start_after_us", "stall_after_us", "fail_after_us")
        spans = {name: chance.choice([0, 5_000_000, 50_000_000]) for name in names}
        batch = await make(store, documents=4, **spans)
        steps = [step for steps, _ in MOVES.values() for step in steps]
        for _ in range(60):
            clock.advance(chance.choice([0, 0, 1, 30, -20]))
            with contextlib.suppress(IllegalTransition):
                await move(store, batch, (chance.randrange(4), chance.choice(steps)))
            actual = {timer.document_id: timer for timer in await timers(store)}
            for document in await get_documents(store, await get_batch(store)):
                timeout = timeout_us(document.state, document.stalled, **spans)
                timer = actual.get(document.document_id)
                assert bool(timer) == bool(timeout)
                if timer is not None:
                    assert timer.timeout_us == timeout
                    assert timer.due_at <= timer.heard_at + timeout

    @pytest.mark.parametrize("name", ["registered", "retried"])
    async def test_signs_of_life_do_not_move_timers_of_pending_documents(
        self, store: Store, clock: Clock, name: str
    ) -> None:
        batch = await make(store, start_after_us=START_AFTER_US)
        for step in MOVES[name][0]:
            await move(store, batch, (0, step))
        before = await timers(store)
        clock.advance(30)
        await send_heartbeats(store, 0)
        await move(store, batch, (0, report_of(progress=counted(3))))
        assert await timers(store) == before
        assert not await store.read(
            lambda tx: tx.find_silent(batch, {"doc-0"}, before=clock.now_us), visible=ALL
        )
        await move(store, batch, (0, stalled))
        await move(store, batch, (0, report_of(progress=counted(4))))
        assert await timers(store) == []

    async def test_sign_of_life_is_stored_and_notifies_nobody(
        self, store: Store, clock: Clock, committed: list[set[Topic]]
    ) -> None:
        batch = await make(store, documents=3)
        await move(store, batch, (0, started), (1, started))
        before = await get_documents(store, batch)
        committed.clear()
        clock.advance(30)
        await send_heartbeats(store, 0, 2)
        first, second = await timers(store)
        assert first.heard_at == clock.now_us
        assert first.due_at == second.due_at, "only the row changed, not its index entry"
        assert second.heard_at == START_US
        assert await get_documents(store, batch) == before
        assert committed == []

    @pytest.mark.parametrize(("stall_after_s", "interval_s"), [(1, 0.05), (10, 0.5), (3_600, 1)])
    async def test_signs_of_life_within_an_interval_coalesce(
        self, store: Store, clock: Clock, stall_after_s: float, interval_s: float
    ) -> None:
        batch = await make(store, stall_after_us=stall_after_s * 1_000_000)
        await move(store, batch, (0, started))
        clock.advance(interval_s)
        await send_heartbeats(store, 0)
        assert (await timers(store))[0].heard_at == START_US
        clock.advance(0.001)
        await send_heartbeats(store, 0)
        assert (await timers(store))[0].heard_at == clock.now_us

    async def test_silent_documents_are_those_that_a_sign_of_life_affects(
        self, store: Store, clock: Clock
    ) -> None:
        batch = await make(store, documents=6, fail_after_us=0)
        await move(store, batch, *[(number, started) for number in range(1, 5)])
        await move(store, batch, (1, stalled), (2, paused), (3, ended))
        names = {f"doc-{number}" for number in (*range(5), 77)}

        async def silent(before: int) -> set[str]:
            return set(
                await store.read(
                    lambda tx: tx.find_silent(batch, names, before=before), visible=ALL
                )
            )

        assert await silent(clock.now_us) == {"doc-1"}, "it is stalled without a timeout"
        assert await silent(clock.now_us + 1) == {"doc-1", "doc-4"}

    async def test_timers_are_found_in_the_order_of_their_keys(
        self, store: Store, clock: Clock
    ) -> None:
        batch = await make(store, documents=5)
        for number in (3, 1, 4, 0):
            await move(store, batch, (number, started))
            clock.advance(1)
        actual = await timers(store)
        assert [timer.document_id for timer in actual] == ["doc-3", "doc-1", "doc-4", "doc-0"]
        assert [timer.key for timer in actual] == sorted(timer.key for timer in actual)
        until = actual[2].due_at
        assert await timers(store, until=until) == actual[:3]
        assert await timers(store, until=until - 1, maximum=1) == actual[:1]
        assert await timers(store, after=actual[0].key, maximum=2) == actual[1:3]
        assert await timers(store, after=actual[3].key) == []

        assert await next_due(store) == actual[0].due_at

    async def test_next_due_is_the_earliest_of_documents_and_batches(
        self, store: Store, clock: Clock
    ) -> None:
        assert await next_due(store) is None
        now = clock.now_us
        await create(store, "seal", sealed=False, seal_after_us=2 * STALL_US)
        assert await next_due(store) == now + 2 * STALL_US
        batch = await make(store, documents=1)
        await move(store, batch, (0, started))
        [timer] = await timers(store)
        assert await next_due(store) == timer.due_at
        await move(store, batch, (0, ended))
        assert await next_due(store) == now + 2 * STALL_US

    async def test_timer_is_set_and_cleared(self, store: Store) -> None:
        batch = await make(store, documents=2)
        await move(store, batch, (0, started), (1, started))
        [first, second] = await timers(store)

        def call(tx: WriteTransaction) -> None:
            tx.set_timer(first, heard_at=7, due_at=99)
            tx.set_timer(second, heard_at=8, due_at=None)

        await store.write(call, visible=ALL)
        [timer] = await timers(store)
        assert (timer.document_id, timer.heard_at, timer.due_at) == (first.document_id, 7, 99)

    @pytest.mark.parametrize("what", ["batch", "dataset"])
    async def test_timers_of_deleted_batches_have_no_timeout(self, store: Store, what: str) -> None:
        batch = await make(store, documents=3)
        await move(store, batch, (0, started), (1, started))
        await store.write(lambda tx: delete(tx, what), visible=ALL)
        assert [timer.timeout_us for timer in await timers(store)] == [0, 0]
        while await store.write(lambda tx: tx.sweep(2), visible=ALL):
            pass
        assert await timers(store) == []

    async def test_idle_batches_are_those_that_wait_for_documents(
        self, store: Store, clock: Clock
    ) -> None:
        """Not sealed ones, those with open documents, and those without `seal_after`."""
        for name, fields in IDLE.items():
            await create(store, name, **{"sealed": False, "seal_after_us": 10_000_000} | fields)
        open_again = await create(store, "open", documents=1, sealed=False, seal_after_us=1)
        assert await idle(store, clock.now_us + 9_999_999) == []
        assert await idle(store, clock.now_us + 20_000_000) == ["ten", "twenty"]
        assert await idle(store, clock.now_us + 20_000_000, limit=1) == ["ten"]
        assert await next_due(store) == clock.now_us + 10_000_000
        clock.advance(1)
        await move(store, open_again, (0, ended))
        assert await idle(store, clock.now_us) == ["open"], "its seal_after has passed"

    async def test_added_document_restarts_the_wait_of_a_batch(
        self, store: Store, clock: Clock
    ) -> None:
        await create(store, sealed=False, seal_after_us=10_000_000)
        clock.advance(9)

        def add(tx: WriteTransaction) -> None:
            edit = edit_of(tx, find_batch(tx, DATASET_ID, BATCH_ID))
            [added] = register_documents(edit, 1)
            tx.save(edit)
            edit = edit_of(tx, find_batch(tx, DATASET_ID, BATCH_ID))
            edit.apply(added, stop(added, now=edit.now))
            tx.save(edit)

        await store.write(add, visible=ALL)
        clock.advance(9)
        assert await idle(store, clock.now_us) == []
        clock.advance(1)
        assert await idle(store, clock.now_us) == [BATCH_ID]

    async def test_idle_time_is_set_and_capped(self, store: Store, clock: Clock) -> None:
        batch = await create(store, sealed=False, seal_after_us=10_000_000)
        ahead = clock.now_us + 3_600_000_000
        await store.write(lambda tx: tx.set_idle_since(batch, ahead), visible=ALL)
        assert await idle(store, clock.now_us + 10_000_000) == []
        await store.write(lambda tx: tx.cap_idle_since(clock.now_us), visible=ALL)
        assert await idle(store, clock.now_us + 10_000_000) == [BATCH_ID]

    @pytest.mark.parametrize("what", ["batch", "dataset"])
    async def test_deleted_batch_is_never_idle(self, store: Store, what: str) -> None:
        await create(store, sealed=False, seal_after_us=1)
        await store.write(lambda tx: delete(tx, what), visible=ALL)
        assert await idle(store, START_US + 10**12) == []

    async def test_lease_has_no_holder_at_first_and_is_stored(self, store: Store) -> None:
        initial = await store.read(lambda tx: tx.find_lease(), visible=ALL)
        assert initial == Lease(holder=0, renewals=0, reached_at=0)
        lease = Lease(holder=2**62, renewals=3, reached_at=START_US)
        await store.write(lambda tx: tx.save_lease(lease), visible=ALL)
        assert await store.read(lambda tx: tx.find_lease(), visible=ALL) == lease
