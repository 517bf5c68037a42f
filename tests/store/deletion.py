"""Contract of stores: deletion takes effect at once, and rows are swept in steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stagecast.model import ALL, Batch, BatchState, Creation, DocumentCounts, Stage
from stagecast.store import Commits, DatasetNews, ReadTransaction, Store, WriteTransaction
from stagecast.store import get_batch as find_batch
from stagecast.store import get_dataset as find_dataset
from tests.builders import (
    BATCH_ID,
    DATASET_ID,
    ERROR,
    counted,
    create,
    get_batch,
    get_dataset,
    get_documents,
    get_log,
    get_progress,
    move,
    report_of,
)
from tests.clock import START_US, Clock

OTHER_DATASET_ID = "00000000-1111-4222-8333-444444444444"


async def delete_batch(store: Store, batch_id: str = BATCH_ID) -> None:
    await store.write(
        lambda tx: tx.delete_batches([find_batch(tx, DATASET_ID, batch_id)]), visible=ALL
    )


async def delete_dataset(store: Store, dataset_id: str = DATASET_ID) -> None:
    await store.write(lambda tx: tx.delete_dataset(find_dataset(tx, dataset_id)), visible=ALL)


async def sweep(store: Store, limit: int) -> int:
    """Sweep to the end and return the number of steps."""
    steps = 0
    while await store.write(lambda tx: tx.sweep(limit), visible=ALL):
        steps += 1
    return steps


async def news_of(store: Store, after: int) -> DatasetNews:
    return await store.read(lambda tx: tx.find_dataset_news(None, after_seq=after), visible=ALL)


class DeletionContract:
    """A part of `StoreContract`."""

    async def test_deleted_batch_is_not_found(self, store: Store) -> None:
        made_by = Creation(fingerprint=b"x", documents=2, request_id="r1")
        batch = await create(store, documents=2, made_by=made_by)
        stays = await create(store, "stays", documents=1)
        await delete_batch(store)

        def query(tx: WriteTransaction) -> list[object]:
            return [
                tx.find_batch(DATASET_ID, BATCH_ID),
                tx.find_batch_by_request(DATASET_ID, "r1"),
                tx.find_heads([(DATASET_ID, BATCH_ID)]) or None,
                [one.batch_id for one in tx.iterate_batches(None)],
                [one.batch_id for one in tx.iterate_batches(DATASET_ID, states=tuple(BatchState))],
            ]

        assert await store.write(query, visible=ALL) == [None, None, None, ["stays"], ["stays"]]
        again = await create(store, documents=1, made_by=made_by)
        assert again.key > stays.key > batch.key
        assert again.revision == 3

    async def test_deleted_dataset_is_not_found(self, store: Store) -> None:
        await create(store, documents=2)
        await create(store, "second")
        await create(store, dataset_id=OTHER_DATASET_ID)
        await delete_dataset(store)

        def query(tx: ReadTransaction) -> list[object]:
            return [
                tx.find_dataset(DATASET_ID),
                tx.find_batch(DATASET_ID, BATCH_ID),
                [one.dataset_id for one in tx.iterate_datasets(None)],
                [one.dataset_id for one in tx.iterate_datasets([DATASET_ID])],
                [one.dataset_id for one in tx.iterate_batches(None)],
            ]

        assert await store.read(query, visible=ALL) == [
            None,
            None,
            [OTHER_DATASET_ID],
            [],
            [OTHER_DATASET_ID],
        ]
        await create(store, documents=1)
        assert (await get_dataset(store)).batches == 1

    async def test_dataset_is_updated_when_a_batch_is_deleted(
        self, store: Store, clock: Clock
    ) -> None:
        ended: dict[str, Batch] = {}
        for batch_id, report in (
            ("well", report_of(stage=Stage.COMPLETED)),
            ("badly", report_of(error=ERROR)),
            ("last", report_of(stage=Stage.COMPLETED)),
        ):
            clock.advance(1)
            ended[batch_id] = await create(store, batch_id, documents=1)
            await move(store, ended[batch_id], (0, report))
        await create(store, "open", documents=3)
        for batch_id, last, counts in (
            ("well", BatchState.SUCCEEDED, DocumentCounts(pending=3, succeeded=1, failed=1)),
            ("last", BatchState.FAILED, DocumentCounts(pending=3, failed=1)),
            ("open", BatchState.FAILED, DocumentCounts(failed=1)),
            ("badly", None, DocumentCounts()),
        ):
            clock.advance(1)
            await delete_batch(store, batch_id)
            dataset = await get_dataset(store)
            assert (dataset.last_ended, dataset.counts) == (last, counts)
            assert dataset.updated_at == clock.now_us
        assert (dataset.batches, dataset.open_batches, dataset.pending_batches) == (0, 0, 0)
        assert clock.now_us > START_US

    async def test_deletion_of_an_older_batch_keeps_last_ended(
        self, store: Store, clock: Clock
    ) -> None:
        """Also with two batches that ended in one commit, at the same time."""
        end = report_of(stage=Stage.COMPLETED)
        await move(store, await create(store, "old", documents=1), (0, end))
        clock.advance(1)
        first, second = [await create(store, name, documents=1) for name in ("first", "second")]
        await move(store, second, (0, end))
        await move(store, first, (0, report_of(error=ERROR)))
        await delete_batch(store, "old")
        assert (await get_dataset(store)).last_ended is BatchState.FAILED

    async def test_news_list_removed_datasets_unless_created_again(self, store: Store) -> None:
        await create(store)
        await create(store, dataset_id=OTHER_DATASET_ID)
        start = (await news_of(store, 0)).change_seq
        await delete_dataset(store)
        await delete_dataset(store, OTHER_DATASET_ID)
        await create(store)
        news = await news_of(store, start)
        assert [one.dataset_id for one in news.changed] == [DATASET_ID]
        assert news.removed == [OTHER_DATASET_ID]
        await sweep(store, 100)
        assert (await news_of(store, start)) == news
        await delete_dataset(store)
        await sweep(store, 100)
        later = await news_of(store, news.change_seq)
        assert (later.changed, later.removed) == ([], [DATASET_ID])
        assert later.change_seq > news.change_seq
        assert (await news_of(store, later.change_seq)).removed == []
        await create(store)
        assert (await news_of(store, later.change_seq)).change_seq > later.change_seq, (
            "change_seq never decreases"
        )

    async def test_deletion_notifies_the_deleted_names(
        self, store: Store, committed: list[Commits]
    ) -> None:
        await create(store)
        await create(store, "second")
        await create(store, "third")
        committed.clear()
        await delete_batch(store)
        await delete_dataset(store)
        assert [*map(set, committed)] == [
            {(DATASET_ID, BATCH_ID)},
            {(DATASET_ID,), (DATASET_ID, "second"), (DATASET_ID, "third")},
        ]
        committed.clear()
        await sweep(store, 100)
        assert committed == [], "a sweep notifies nobody"

    @pytest.mark.parametrize("limit", [1, 3, 1_000])
    async def test_sweep_deletes_limited_rows_of_deleted_batches_only(
        self, store: Store, limit: int
    ) -> None:
        assert await sweep(store, limit) == 0
        stays = await create(store, "stays", documents=3)
        stays = await move(store, stays, (0, report_of(progress=counted(1))))
        await create(store, documents=7)
        await create(store, dataset_id=OTHER_DATASET_ID, documents=2)
        counting = await get_batch(store)
        await move(store, counting, (1, report_of(progress=counted(1))))
        await delete_batch(store)
        await delete_dataset(store, OTHER_DATASET_ID)
        again = await create(store, documents=2)
        before = [await everything_of(store, one) for one in (stays, again)]
        steps = await sweep(store, limit)
        # Log, documents, a progress epoch, the batch; and the dataset.
        assert steps == -(-sum((9, 7, 1, 1, 4, 2, 0, 1, 1)) // limit)
        assert await sweep(store, limit) == 0
        assert [await everything_of(store, one) for one in (stays, again)] == before
        for key in (counting.key, counting.key + 1):
            gone = await everything_of(store, replace(stays, key=key))
            assert gone[1:] == [[], [], []]


async def everything_of(store: Store, batch: Batch) -> list[object]:
    """Return everything that is stored of a batch, by its key."""
    return [
        await store.read(lambda tx: tx.find_batch(batch.dataset_id, batch.batch_id), visible=ALL),
        await get_documents(store, batch),
        await get_log(store, batch),
        await get_progress(store, batch, 0),
    ]
