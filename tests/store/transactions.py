"""Contract of stores: atomic writes, consistent reads, no blocking."""

from __future__ import annotations

import asyncio
import threading

import pytest

from stagecast.errors import BatchSealed, StagecastError
from stagecast.model import (
    ALL,
    Batch,
    Document,
    DocumentCounts,
    DocumentState,
    Stage,
)
from stagecast.store import Commits, ReadTransaction, Store, WriteTransaction
from tests import builders
from tests.builders import (
    BATCH_ID,
    DATASET_ID,
    counted,
    create,
    edit_of,
    get_batch,
    get_dataset,
    get_documents,
    get_log,
    move,
    register_documents,
    report_of,
    started,
)

DEADLINE_S = 60.0


class TransactionsContract:
    """A part of `StoreContract`."""

    async def test_refused_call_does_not_affect_others_in_its_commit(self, store: Store) -> None:
        batch = await create(store, documents=40)

        def refuse(tx: WriteTransaction) -> None:
            edit = edit_of(tx, batch)
            actual = tx.find_documents(batch, ["doc-0"])["doc-0"]
            edit.apply(actual, started(actual, edit.now))
            raise BatchSealed("no", batch_id=BATCH_ID)

        calls = [move(store, batch, (number, started)) for number in range(40)]
        refused = [store.write(refuse, visible=ALL) for _ in range(40)]
        mixed = [call for pair in zip(calls, refused, strict=True) for call in pair]
        answers = await asyncio.gather(*mixed, return_exceptions=True)
        assert all(isinstance(answer, Batch) for answer in answers[::2])
        assert all(isinstance(answer, BatchSealed) for answer in answers[1::2])
        await self.check_all_started(store, 40)

    @pytest.mark.parametrize("error", [RuntimeError, ArithmeticError, StopIteration])
    async def test_failing_call_is_rolled_back_and_fails_alone(
        self, store: Store, committed: list[Commits], error: type[Exception]
    ) -> None:
        batch = await create(store, documents=20)

        def fail(tx: WriteTransaction) -> Batch:
            edit = tx.new_batch(builders.batch(key=0, batch_id="broken"), builders.creation())
            edit.create()
            tx.save(edit)
            raise error("broken")

        calls = [move(store, batch, (number, started)) for number in range(20)]
        calls.insert(7, store.write(fail, visible=ALL))
        async with asyncio.timeout(DEADLINE_S):
            answers = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(answers.pop(7), Exception)
        assert all(isinstance(answer, Batch) for answer in answers)
        await self.check_all_started(store, 20)
        assert await store.read(lambda tx: tx.find_batch(DATASET_ID, "broken"), visible=ALL) is None
        assert (await get_dataset(store)).batches == 1
        assert (DATASET_ID, "broken") not in set().union(*committed)

    async def check_all_started(self, store: Store, documents: int) -> None:
        """Check that each document was started by a call of its own, without gaps."""
        batch = await get_batch(store)
        log = await get_log(store, batch)
        assert (
            batch.counts == (await get_dataset(store)).counts == DocumentCounts(running=documents)
        )
        assert [t.revision for t in log] == list(range(1, 2 * documents + 3))
        assert len({t.write_id for t in log}) == documents + 1

    async def test_call_sees_the_writes_of_the_one_before(self, store: Store) -> None:
        batch = await create(store, documents=1, sealed=False)

        def add(tx: WriteTransaction) -> int:
            stored = tx.find_batch(DATASET_ID, BATCH_ID)
            assert stored is not None
            edit = edit_of(tx, stored)
            register_documents(edit, 1)
            tx.save(edit)
            return len(list(tx.iterate_documents(stored)))

        assert await asyncio.gather(*(store.write(add, visible=ALL) for _ in range(30))) == [
            *range(2, 32)
        ]
        assert len(await get_documents(store, batch)) == 31

    async def test_commit_is_notified_before_the_call_is_answered(
        self, store: Store, committed: list[Commits]
    ) -> None:
        batch = await create(store, documents=1)
        assert [*map(set, committed)] == [{(DATASET_ID, BATCH_ID)}]
        await move(store, batch, (0, report_of(progress=counted(1))))  # counters notify too
        assert [*map(set, committed)] == [{(DATASET_ID, BATCH_ID)}] * 2

    async def test_call_without_changes_notifies_nobody(
        self, store: Store, committed: list[Commits]
    ) -> None:
        batch = await create(store, documents=1)
        committed.clear()
        await move(store, batch, (0, report_of(stage=Stage.WAITING)))
        await store.probe()
        assert committed == []
        assert await get_batch(store) == batch

    async def test_error_of_a_query_reaches_its_caller_unchanged(self, store: Store) -> None:
        await create(store)
        for error in (StagecastError("no"), RuntimeError("broken")):

            def query(_tx: ReadTransaction, error: Exception = error) -> None:
                raise error

            for run in (store.read, store.write):
                with pytest.raises(type(error)) as caught:
                    await run(query, visible=ALL)
                assert caught.value is error
                assert error.__cause__ is None

    async def test_reads_do_not_wait_for_a_write(self, store: Store) -> None:
        batch = await create(store, documents=1)
        wrote, may_continue = threading.Event(), threading.Event()

        def write_long(tx: WriteTransaction) -> None:
            edit = edit_of(tx, batch)
            actual = tx.find_documents(batch, ["doc-0"])["doc-0"]
            edit.apply(actual, started(actual, edit.now))
            tx.save(edit)
            wrote.set()
            assert may_continue.wait(DEADLINE_S)

        writing = asyncio.create_task(store.write(write_long, visible=ALL))
        try:
            assert await asyncio.to_thread(wrote.wait, DEADLINE_S)
            async with asyncio.timeout(DEADLINE_S / 2):
                actual = await asyncio.gather(*(get_batch(store) for _ in range(20)))
            assert actual == [batch] * 20  # uncommitted writes are invisible
        finally:
            may_continue.set()
            await writing
        assert (await get_batch(store)).revision == batch.revision + 1

    async def test_query_sees_a_consistent_snapshot(self, store: Store) -> None:
        batch = await create(store, documents=1)
        read_batch, may_continue = threading.Event(), threading.Event()

        def query(tx: ReadTransaction) -> tuple[Batch | None, list[Document]]:
            actual = tx.find_batch(DATASET_ID, BATCH_ID)
            read_batch.set()
            assert may_continue.wait(DEADLINE_S)
            return actual, list(tx.iterate_documents(batch))

        reading = asyncio.create_task(store.read(query, visible=ALL))
        assert await asyncio.to_thread(read_batch.wait, DEADLINE_S)
        await move(store, batch, (0, started))
        may_continue.set()
        actual, [document] = await reading
        assert (actual, document.state) == (batch, DocumentState.PENDING)

    async def test_failed_query_does_not_block_the_next_one(self, store: Store) -> None:
        batch = await create(store, documents=9)

        def query(tx: ReadTransaction) -> None:
            documents = tx.iterate_documents(batch)
            raise StagecastError(f"enough with {next(documents).document_id}")

        for number in range(9):
            with pytest.raises(StagecastError) as caught:
                await store.read(query, visible=ALL)
            batch = await move(store, batch, (number, started))
            assert await get_batch(store) == batch
            # The traceback keeps the generator of the query alive.
            assert caught.value.__traceback__ is not None

    async def test_close_finishes_pending_calls(self, store: Store) -> None:
        calls = [asyncio.create_task(create(store, f"b-{number}")) for number in range(30)]
        await asyncio.sleep(0)  # each is queued
        await store.close()
        async with asyncio.timeout(DEADLINE_S):
            answers = await asyncio.gather(*calls)
        assert [batch.revision for batch in answers] == [2] * 30
