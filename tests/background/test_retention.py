"""Retention: the settings, the minimum age, and deletion in steps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stagecast.app import App
from stagecast.background import retention as retention_module
from stagecast.background.retention import Retention
from stagecast.config import Config
from stagecast.errors import StoreBusy
from stagecast.model import ALL, Visibility
from stagecast.store import WriteTransaction
from stagecast.store.sqlite import SqliteStore
from tests.builders import (
    BATCH_ID,
    create,
    get_batch,
    get_dataset,
    move,
)
from tests.clock import Clock
from tests.conditions import until
from tests.rpc.calls import contents
from tests.store.counting import CountingStore
from tests.store.history import ended, make_ended, retried, revisions

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400


@contextlib.asynccontextmanager
async def opened(path: Path, clock: Clock) -> AsyncIterator[CountingStore]:
    store = CountingStore(
        path, clock=clock, on_commit=lambda _: None, on_foreign_commit=lambda: None
    )
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(config: Config, clock: Clock) -> AsyncIterator[CountingStore]:
    async with opened(config.db, clock) as store:
        yield store


class RetentionFactory:
    """Creates `Retention` with given settings.

    Attributes:
        deletions: the number of calls of `on_deleted`.
    """

    def __init__(self, store: SqliteStore, config: Config, clock: Clock) -> None:
        self._store, self._config, self._clock = store, config, clock
        self.deletions = 0

    def __call__(self, **settings: Any) -> Retention:
        return Retention(
            self._store,
            config=replace(self._config, **settings),
            clock=self._clock,
            on_deleted=self._count,
        )

    def _count(self) -> None:
        self.deletions += 1


@pytest.fixture
def make_retention(store: CountingStore, config: Config, clock: Clock) -> RetentionFactory:
    return RetentionFactory(store, config, clock)


async def batches(store: SqliteStore) -> list[str]:
    actual = await store.read(
        lambda tx: [each.batch_id for each in tx.iterate_batches(None)], visible=ALL
    )
    return sorted(actual)


async def test_everything_is_retained_by_default(
    store: CountingStore, make_retention: RetentionFactory, clock: Clock
) -> None:
    await make_ended(store)
    clock.advance(10_000 * DAY_S)
    reads = store.reads
    async with asyncio.timeout(60):
        await make_retention().run()
    assert store.reads == reads, "it does not even read"
    assert await revisions(store) == [*range(1, 12)]


async def test_history_is_trimmed_at_the_configured_age_of_its_batch(
    store: CountingStore, make_retention: RetentionFactory, clock: Clock
) -> None:
    await make_ended(store)
    await create(store, "open", documents=2)
    retention = make_retention(retain_history_s=30 * DAY_S)
    clock.advance(30 * DAY_S - 1)
    await retention.run_once()
    assert len(await revisions(store)) == 11
    clock.advance(1)
    await retention.run_once()
    assert await revisions(store) == [11]
    assert await revisions(store, "open") == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "settings",
    [{"retain_history_s": 1.0}, {"retain_transitions": 1}, {"retain_batches_s": 1.0}],
    ids=lambda settings: next(iter(settings)),
)
async def test_everything_is_retained_for_at_least_ten_minutes(
    store: CountingStore, make_retention: RetentionFactory, clock: Clock, settings: dict[str, Any]
) -> None:
    await make_ended(store)
    retention = make_retention(**settings)
    clock.advance(10 * MINUTE_S - 1)
    await retention.run_once()
    assert len(await revisions(store)) == 11
    clock.advance(1)
    await retention.run_once()
    deleted = "retain_batches_s" in settings
    assert await batches(store) == ([] if deleted else [BATCH_ID])
    assert deleted or await revisions(store) == [11]


async def test_shorter_of_two_limits_applies(
    store: CountingStore, make_retention: RetentionFactory, clock: Clock
) -> None:
    await make_ended(store)
    retention = make_retention(
        retain_history_s=DAY_S, retain_transitions=5, retain_batches_s=2 * DAY_S
    )
    for wait_s, left in ((HOUR_S, 5), (DAY_S, 1)):
        clock.advance(wait_s)
        await retention.run_once()
        assert len(await revisions(store)) == left
    clock.advance(DAY_S)
    await retention.run_once()
    assert await batches(store) == []


async def test_expired_batches_are_deleted_and_the_dataset_stays(
    store: CountingStore, make_retention: RetentionFactory, clock: Clock
) -> None:
    for batch_id in ("old", "older"):
        await make_ended(store, batch_id)
    clock.advance(HOUR_S)
    await make_ended(store, "young", documents=1)
    await create(store, "open", documents=2)
    retention = make_retention(retain_batches_s=HOUR_S)
    await retention.run_once()
    assert await batches(store) == ["open", "young"]
    assert make_retention.deletions == 1
    dataset = await get_dataset(store)
    assert (dataset.batches, dataset.counts.total, dataset.counts.succeeded) == (2, 3, 1)
    clock.advance(HOUR_S)
    await move(store, await get_batch(store, "open"), (0, ended), (1, ended))
    clock.advance(HOUR_S)
    await retention.run_once()
    assert await batches(store) == []
    dataset = await get_dataset(store)
    assert (dataset.batches, dataset.counts.total, dataset.last_ended) == (0, 0, None)


async def test_reopened_batch_is_retained(
    store: CountingStore, make_retention: RetentionFactory, clock: Clock
) -> None:
    batch = await make_ended(store)
    await move(store, batch, (0, retried))
    clock.advance(DAY_S)
    await make_retention(
        retain_batches_s=HOUR_S, retain_history_s=HOUR_S, retain_transitions=1
    ).run_once()
    assert len(await revisions(store)) == 12


async def test_run_with_nothing_due_writes_nothing(
    store: CountingStore, make_retention: RetentionFactory, clock: Clock
) -> None:
    for number in range(5):
        await make_ended(store, f"b-{number}")
    retention = make_retention(
        retain_batches_s=30 * DAY_S, retain_history_s=DAY_S, retain_transitions=20
    )
    clock.advance(HOUR_S)
    reads, writes = store.reads, store.writes
    await retention.run_once()
    assert (store.reads - reads, store.writes - writes) == (3, 0)


async def test_many_transitions_are_trimmed_in_steps(
    store: CountingStore, make_retention: RetentionFactory, clock: Clock
) -> None:
    for number in range(30):
        await make_ended(store, f"b-{number}", documents=50)
    clock.advance(DAY_S)
    writes = store.writes
    await make_retention(retain_history_s=HOUR_S).run_once()
    assert store.writes - writes == -(-30 * 151 // 1_000)
    assert [await revisions(store, f"b-{number}") for number in range(30)] == [[152]] * 30


async def test_batches_are_deleted_in_steps(
    store: CountingStore,
    make_retention: RetentionFactory,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention_module, "_BATCHES", 2)
    for number in range(5):
        await make_ended(store, f"b-{number}", documents=1)
    clock.advance(DAY_S)
    writes = store.writes
    await make_retention(retain_batches_s=HOUR_S).run_once()
    assert (store.writes - writes, make_retention.deletions) == (3, 3)
    assert await batches(store) == []


async def test_concurrent_processes_do_nothing_twice(
    store: CountingStore, make_retention: RetentionFactory, config: Config, clock: Clock
) -> None:
    for number in range(150):
        await make_ended(store, f"b-{number}", documents=20)
    clock.advance(DAY_S)
    settings = {"retain_batches_s": DAY_S, "retain_transitions": 2}
    async with opened(config.db, clock) as other:
        make_other = RetentionFactory(other, config, clock)
        await make_ended(store, "last")
        clock.advance(HOUR_S)
        await asyncio.gather(
            make_retention(**settings).run_once(), make_other(**settings).run_once()
        )
        assert await batches(other) == ["last"]
        assert await revisions(other, "last") == [10, 11]
        assert (await get_dataset(other)).batches == 1


@pytest.mark.parametrize("settings", [{"retain_history_s": 1.0}, {"retain_batches_s": 1.0}])
async def test_other_writers_run_between_two_steps(
    store: CountingStore,
    make_retention: RetentionFactory,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, float],
) -> None:
    assert retention_module._PAUSE_S > 0
    monkeypatch.setattr(retention_module, "_PAUSE_S", 3_600.0)
    for name in ("_ROWS", "_BATCHES"):
        monkeypatch.setattr(retention_module, name, 1)
    for number in range(3):
        await make_ended(store, f"ended-{number}")
    clock.advance(DAY_S)
    steps: list[int] = []
    write = store.write

    async def count(call: Callable[[WriteTransaction], Any], *, visible: Visibility) -> Any:
        done = await write(call, visible=visible)
        steps.append(done)
        return done

    monkeypatch.setattr(store, "write", count)
    running = asyncio.create_task(make_retention(**settings).run_once())
    await until(lambda: bool(steps))
    for number in range(5):
        await create(store, f"other-{number}")
    assert len(steps) == 1 + 5, "it waits meanwhile"
    running.cancel()
    await asyncio.wait((running,))


async def test_failure_is_logged_and_retried(
    store: CountingStore,
    make_retention: RetentionFactory,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await make_ended(store)
    clock.advance(DAY_S)
    errors = [StoreBusy("disk full", retry_after_s=1), RuntimeError("a bug")]
    write = store.write

    async def fail_first(call: Callable[[WriteTransaction], Any], *, visible: Visibility) -> Any:
        if errors:
            raise errors.pop(0)
        return await write(call, visible=visible)

    monkeypatch.setattr(store, "write", fail_first)
    running = asyncio.create_task(make_retention(retain_history_s=HOUR_S, retain_every_s=0.0).run())
    try:
        with caplog.at_level(logging.INFO):
            await until(lambda: "transitions trimmed by retention: 10" in caplog.text)
    finally:
        running.cancel()
    assert "cannot apply retention: disk full" in caplog.text
    assert "a bug" in caplog.text
    assert await revisions(store) == [11]


async def test_rows_of_deleted_batches_are_swept(
    store: CountingStore, config: Config, clock: Clock
) -> None:
    """By a whole server, whose background tasks work together."""
    await make_ended(store)
    clock.advance(DAY_S)
    settings = replace(config, retain_batches_s=HOUR_S, retain_every_s=0.01)

    def is_swept() -> bool:
        actual = contents(config.db)
        return not any(actual[table] for table in ("batches", "documents", "transitions"))

    async with App(settings, clock=clock):
        await until(is_swept)
    assert (await get_dataset(store)).batches == 0
