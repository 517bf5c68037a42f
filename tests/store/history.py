"""Contract of stores: the oldest history of ended batches is trimmed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stagecast.errors import StoreBusy
from stagecast.model import ALL, Batch, Stage, retry
from stagecast.store import HistoryLimit, Store
from stagecast.store import get_batch as find_batch
from stagecast.store import get_dataset as find_dataset
from tests.builders import (
    BATCH_ID,
    DATASET_ID,
    create,
    get_batch,
    get_documents,
    get_log,
    move,
    report_of,
    started,
)
from tests.clock import Clock

ended, retried = report_of(stage=Stage.COMPLETED), lambda actual, _: retry(actual)
BY_AGE = 1


async def make_ended(store: Store, batch_id: str = BATCH_ID, documents: int = 3) -> Batch:
    """Create a batch that ends now, with 2 + 3 * documents transitions."""
    batch = await create(store, batch_id, documents=documents)
    moves = [(number, step) for step in (started, ended) for number in range(documents)]
    return await move(store, batch, *moves)


async def trim(store: Store, until: int, keep: int, maximum: int = 1_000) -> list[int]:
    """Trim to the end and return the number of deleted transitions in each step."""
    limit = HistoryLimit(ended_until=until, keep=keep)
    steps = []
    while await store.read(lambda tx: tx.has_excess(limit), visible=ALL):
        steps.append(await store.write(lambda tx: tx.trim(limit, maximum), visible=ALL))
        assert steps[-1], "it would never end"
        assert len(steps) < 100, "it would never end"
    assert await store.write(lambda tx: tx.trim(limit, maximum), visible=ALL) == 0
    return steps


async def revisions(store: Store, batch_id: str = BATCH_ID) -> list[int]:
    """Return the revisions that the log still has."""
    return [each.revision for each in await get_log(store, await get_batch(store, batch_id))]


async def ended_until(store: Store, until: int, maximum: int = 100) -> list[str]:
    actual = await store.read(lambda tx: tx.find_ended(until, maximum), visible=ALL)
    return [batch.batch_id for batch in actual]


class HistoryContract:
    """A part of `StoreContract`."""

    @pytest.mark.parametrize("keep", [1, 2, 10, 11, 12])
    async def test_newest_transitions_are_retained(
        self, store: Store, clock: Clock, keep: int
    ) -> None:
        whole = await get_log(store, batch := await make_ended(store))
        documents = await get_documents(store, batch)
        assert sum(await trim(store, clock.now_us, keep)) == max(0, 11 - keep)
        assert await get_log(store, batch) == whole[-keep:]
        assert await get_batch(store) == batch
        assert await get_documents(store, batch) == documents

    @pytest.mark.parametrize("keep", [BY_AGE, 4])
    async def test_history_is_retained_until_the_batch_has_ended_long_ago(
        self, store: Store, clock: Clock, keep: int
    ) -> None:
        batch = await make_ended(store)
        assert await trim(store, clock.now_us - 1, keep) == []
        clock.advance(5)
        await move(store, batch, (0, retried))
        clock.advance(5)
        assert await trim(store, clock.now_us, keep) == [], "it is open again"
        await move(store, batch, (0, ended))
        assert await trim(store, clock.now_us - 1, keep) == [], "its last end counts"
        assert await trim(store, clock.now_us, keep) == [13 - keep]

    @pytest.mark.parametrize("keep", [BY_AGE, 4])
    async def test_log_continues_and_is_trimmed_again(
        self, store: Store, clock: Clock, keep: int
    ) -> None:
        batch = await make_ended(store)
        await trim(store, clock.now_us, keep)
        await move(store, batch, (0, retried), (0, started))
        assert await revisions(store) == [*range(12 - keep, 14)]
        await move(store, batch, (0, ended))
        await trim(store, clock.now_us, keep)
        assert await revisions(store) == [*range(15 - keep, 15)]

    @pytest.mark.parametrize("maximum", [1, 4, 7, 1_000])
    async def test_trim_is_limited_across_batches(
        self, store: Store, clock: Clock, maximum: int
    ) -> None:
        stays = await create(store, "open", documents=9)
        for batch_id in ("first", "second", "third"):
            await make_ended(store, batch_id, documents=2)
        steps = await trim(store, clock.now_us, keep=2, maximum=maximum)
        assert (sum(steps), len(steps)) == (18, -(-18 // maximum))
        assert [await revisions(store, each) for each in ("first", "second", "third")] == [
            [7, 8]
        ] * 3
        assert len(await get_log(store, stays)) == 11

    async def test_write_id_is_found_while_the_transition_is_retained(
        self, store: Store, clock: Clock
    ) -> None:
        batch = await make_ended(store)
        call = await store.read(lambda tx: tx.find_write_id(batch, 11), visible=ALL)
        await trim(store, clock.now_us, keep=2)

        async def find(revision: int) -> int | None:
            return await store.read(lambda tx: tx.find_write_id(batch, revision), visible=ALL)

        assert [await find(revision) for revision in (9, 10, 11)] == [None, call, call]

    async def test_documents_as_of_a_trimmed_revision_are_refused(
        self, store: Store, clock: Clock
    ) -> None:
        """A snapshot may be read as of a revision while its log is trimmed."""
        batch = await make_ended(store)
        before = await get_documents(store, batch)
        await move(store, batch, (2, retried), (2, ended))
        await trim(store, clock.now_us, keep=3)
        assert await get_documents(store, batch, as_of=11) == before, "revision 11 is retained"
        await trim(store, clock.now_us, keep=2)
        with pytest.raises(StoreBusy, match=f"revision 11 of batch '{BATCH_ID}' is no longer"):
            await get_documents(store, batch, as_of=11)
        now = await get_documents(store, batch)
        assert await get_documents(store, batch, as_of=13) == now

    async def test_ended_batches_are_found_earliest_end_first(
        self, store: Store, clock: Clock
    ) -> None:
        for batch_id in ("b", "a", "again", "c"):
            await make_ended(store, batch_id)
            clock.advance(1)
        await create(store, "open", documents=1)
        await move(store, await get_batch(store, "again"), (0, retried))
        assert await ended_until(store, clock.now_us) == ["b", "a", "c"]
        assert await ended_until(store, clock.now_us, maximum=2) == ["b", "a"]
        assert await ended_until(store, clock.now_us - 3_000_000) == ["b", "a"]
        actual = await store.read(lambda tx: tx.find_ended(clock.now_us, 1), visible=ALL)
        assert actual == [await get_batch(store, "b")]

    @pytest.mark.parametrize("what", ["batch", "dataset"])
    async def test_deleted_batches_are_not_trimmed(
        self, store: Store, clock: Clock, what: str
    ) -> None:
        batch = await make_ended(store)
        if what == "batch":
            await store.write(
                lambda tx: tx.delete_batches([find_batch(tx, DATASET_ID, BATCH_ID)]), visible=ALL
            )
        else:
            await store.write(
                lambda tx: tx.delete_dataset(find_dataset(tx, DATASET_ID)), visible=ALL
            )
        assert await ended_until(store, clock.now_us) == []
        for keep in (BY_AGE, 2):
            assert await trim(store, clock.now_us, keep) == []
        assert len(await get_log(store, replace(batch, batch_id="gone"))) == 11
