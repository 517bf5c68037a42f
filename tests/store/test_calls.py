"""Calls that wait for a hanging disk, and whose callers are cancelled."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from stagecast.errors import StoreBusy
from stagecast.model import ALL
from stagecast.store import WriteTransaction
from stagecast.store.sqlite import SqliteStore
from tests.builders import ENCODER, create, edit_of, get_batch, get_documents, move, started
from tests.clock import Clock
from tests.conditions import until
from tests.faults import hanging_reads, hanging_writes


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(
        tmp_path / "s.db",
        clock=clock,
        encoder=ENCODER,
        on_commit=lambda _: None,
        on_foreign_commit=lambda: None,
    )
    yield store
    await store.close()


async def _begin(work: Any) -> asyncio.Task[Any]:
    """Start a call and let it wait."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    return task


async def _cancel(*callers: asyncio.Task[Any]) -> None:
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)


async def test_queued_write_of_a_cancelled_caller_is_not_run(
    store: SqliteStore,
) -> None:
    batch = await create(store, documents=3)
    async with hanging_writes(store):
        cancelled = [await _begin(move(store, batch, (n, started))) for n in (0, 1)]
        staying = await _begin(move(store, batch, (2, started)))
        await _cancel(*cancelled)
        assert len(store._writer._calls) == 1, "only the other call waits"
    await staying
    assert (await get_batch(store)).counts.running == 1


@pytest.mark.parametrize("hanging", [hanging_reads, hanging_writes])
async def test_call_of_a_cancelled_caller_is_released(
    store: SqliteStore, hanging: Callable[[SqliteStore], Any]
) -> None:
    run = store.read if hanging is hanging_reads else store.write

    class Query:
        def __call__(self, _tx: object) -> None:
            raise AssertionError("its caller was cancelled")

    query = Query()
    held = weakref.ref(query)
    async with hanging(store):
        await _cancel(await _begin(run(query, visible=ALL)))
        del query
        assert held() is None


async def test_begun_write_is_committed_if_its_caller_is_cancelled(
    store: SqliteStore,
) -> None:
    batch = await create(store, documents=1)
    begun, held = threading.Event(), threading.Event()
    [document] = await get_documents(store, batch)

    def take(tx: WriteTransaction) -> None:
        edit = edit_of(tx, batch)
        edit.apply(document, started(document, edit.now))
        tx.save(edit)
        begun.set()
        held.wait()

    cancelled = await _begin(store.write(take, visible=ALL))
    await until(begun.is_set)
    await _cancel(cancelled)
    held.set()
    await store.write(lambda _: None, visible=ALL)  # queued after it
    assert (await get_batch(store)).counts.running == 1


async def test_store_whose_reads_hang_does_not_answer_a_probe(store: SqliteStore) -> None:
    async with hanging_reads(store):
        probing = await _begin(store.probe())
        for _ in range(2):  # the probe's own write is before these
            await store.write(lambda _: None, visible=ALL)
        assert not probing.done()
    await probing


async def test_closed_store_answers_queued_calls_and_refuses_new_ones(
    tmp_path: Path, clock: Clock
) -> None:
    store = SqliteStore(
        tmp_path / "s.db",
        clock=clock,
        encoder=ENCODER,
        on_commit=lambda _: None,
        on_foreign_commit=lambda: None,
    )
    async with hanging_writes(store), hanging_reads(store):
        requested = [
            await _begin(run(lambda _: 1, visible=ALL)) for run in (store.read, store.write)
        ]
        closing = await _begin(store.close())
        for run in (store.read, store.write):
            with pytest.raises(StoreBusy, match="closed"):
                await run(lambda _: 1, visible=ALL)
    assert await asyncio.gather(*requested) == [1, 1]
    await closing
