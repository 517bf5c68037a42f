"""Contract of stores: lists of datasets, batches, histories, and documents as of a revision."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import pytest

from stagecast.errors import StagecastError
from stagecast.model import (
    ALL,
    Batch,
    BatchState,
    Document,
    DocumentCounts,
    DocumentState,
    Progress,
    Stage,
    Step,
    Transition,
    batch_state,
    pause,
    resume,
    retry,
    stop,
)
from stagecast.service.controls import Controls
from stagecast.store import ReadTransaction, Store, WriteTransaction
from tests import builders
from tests.builders import (
    BATCH_ID,
    DATASET_ID,
    ERROR,
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

OTHER_DATASET_ID = "00000000-1111-4222-8333-444444444444"
NAMES = [f"{number:08x}-1111-4222-8333-444444444444" for number in range(5)]


async def list_batches(store: Store, dataset_id: str | None = None, **query: Any) -> list[Batch]:
    return await store.read(lambda tx: list(tx.iterate_batches(dataset_id, **query)), visible=ALL)


class ListsContract:
    """A part of `StoreContract`."""

    # Datasets.

    async def test_datasets_are_listed_after_an_id(self, store: Store) -> None:
        for name in reversed(NAMES):
            await create(store, dataset_id=name)
        for requested, after, listed in (
            (None, "", NAMES),
            (None, NAMES[1], NAMES[2:]),
            (None, NAMES[4], []),
            (None, "00000002-2222-4222-8333-444444444444", NAMES[3:]),
            (NAMES[:4], NAMES[1], NAMES[2:4]),
            ([NAMES[1]], NAMES[1], []),
            ([], "", []),
        ):

            def query(
                tx: ReadTransaction, requested: list[str] | None = requested, after: str = after
            ) -> list[str]:
                return [one.dataset_id for one in tx.iterate_datasets(requested, after=after)]

            assert await store.read(query, visible=ALL) == listed

    async def test_dataset_news_are_those_after_a_change_seq(self, store: Store) -> None:
        async def news(after: int, named: list[str] | None = None) -> tuple[int, list[str]]:
            actual = await store.read(
                lambda tx: tx.find_dataset_news(named, after_seq=after), visible=ALL
            )
            assert actual.removed == []
            for one in actual.changed:
                assert one == await get_dataset(store, one.dataset_id)
            return actual.change_seq, sorted(one.dataset_id for one in actual.changed)

        assert await news(0) == (0, [])
        batches = [await create(store, dataset_id=name, documents=2) for name in NAMES]
        start, actual = await news(0)
        assert actual == NAMES
        assert await news(start) == (start, [])
        await move(store, batches[3], (0, started))
        await move(store, batches[1], (0, started))
        await move(store, batches[3], (1, started))
        later, actual = await news(start)
        assert (later > start, actual) == (True, [NAMES[1], NAMES[3]])
        assert await news(start, [NAMES[1], "unknown"]) == (later, [NAMES[1]])
        assert await news(start, [NAMES[0]]) == (later, [])
        await move(store, batches[0], (0, report_of(progress=counted(1))))
        assert await news(later) == (later, []), "counters alone do not change a dataset"

    @pytest.mark.parametrize("named", [[DATASET_ID], [DATASET_ID, "unknown"], None])
    async def test_head_of_datasets_is_another_one_after_every_change_of_them(
        self, store: Store, named: list[str] | None
    ) -> None:
        async def head() -> Hashable:
            return await store.read(lambda tx: tx.find_dataset_heads(named), visible=ALL)

        heads = [await head()]
        batch = await create(store, documents=1)
        heads.append(await head())
        other = await create(store, dataset_id=OTHER_DATASET_ID, documents=1)
        heads.append(await head())
        assert (heads[-1] == heads[-2]) is (named is not None)
        await move(store, batch, (0, report_of(progress=counted(1))))
        assert await head() == heads[-1], "counters alone do not change a dataset"
        await move(store, batch, (0, started))
        heads.append(await head())
        for deleted in (other, batch):
            await Controls(store).delete_dataset(deleted.dataset_id, visible=ALL)
            heads.append(await head())
        assert len(set(heads)) == (6 if named is None else 3)

    # Batches.

    async def test_heads_have_key_revision_progress_seq_and_time(self, store: Store) -> None:
        names = [(DATASET_ID, "one"), (DATASET_ID, "two"), (OTHER_DATASET_ID, "one")]
        made = [
            await create(store, batch_id, dataset_id=dataset_id, documents=1)
            for dataset_id, batch_id in names
        ]
        made[1] = await move(store, made[1], (0, started))
        made[2] = await move(store, made[2], (0, report_of(progress=counted(1))))
        requested = [*names, (OTHER_DATASET_ID, "two"), ("unknown", "one")]
        actual = await store.read(lambda tx: tx.find_heads(requested), visible=ALL)
        assert actual == {
            name: (batch.key, batch.revision, batch.progress_seq, batch.updated_at)
            for name, batch in zip(names, made, strict=True)
        }
        assert len(set(actual.values())) == 3
        assert await store.read(lambda tx: tx.find_heads([]), visible=ALL) == {}

    async def test_batches_are_listed_newest_first_before_a_key(self, store: Store) -> None:
        made = [
            await create(
                store, f"b-{number}", dataset_id=(DATASET_ID, OTHER_DATASET_ID)[number % 2]
            )
            for number in range(9)
        ]
        newest = made[::-1]
        assert await list_batches(store) == newest
        assert await list_batches(store, DATASET_ID) == newest[::2]
        assert await list_batches(store, OTHER_DATASET_ID) == newest[1::2]
        assert await list_batches(store, "unknown") == []
        for index, batch in enumerate(newest, 1):
            assert await list_batches(store, before_key=batch.key) == newest[index:]
        of_one = await list_batches(store, DATASET_ID, before_key=newest[3].key)
        assert of_one == newest[4::2]

    async def test_filter_by_state_agrees_with_the_model(self, store: Store) -> None:
        """For all combinations of zero and non-zero counts, sealed or not."""
        rng = random.Random(5)

        def create_all(tx: WriteTransaction) -> list[Batch]:
            made: list[Batch] = []
            for sealed, *some in itertools.product((False, True), *[(0, 1)] * 6):
                counts = DocumentCounts(
                    **{
                        state.name.lower(): one and rng.choice((1, 2, 10**6))
                        for state, one in zip(DocumentState, some, strict=True)
                    }
                )
                changes = {"counts": counts, "sealed": sealed, "batch_id": f"b-{len(made)}"}
                edit = tx.new_batch(builders.batch(key=0, **changes), builders.creation())
                edit.create()
                tx.save(edit)
                made.append(edit.batch)
            return made

        made = await store.write(create_all, visible=ALL)
        assert {batch_state(batch) for batch in made} == set(BatchState)
        for size in (1, 2, 3):
            for states in itertools.combinations(BatchState, size):
                matching = [batch for batch in made[::-1] if batch_state(batch) in states]
                assert await list_batches(store, states=states) == matching
                assert await list_batches(store, DATASET_ID, states=states) == matching

    # Documents as of a revision.

    @pytest.mark.parametrize("seed", range(4))
    async def test_documents_as_of_a_revision_are_those_of_the_log(
        self, store: Store, seed: int
    ) -> None:
        batch = await make_history(store, random.Random(seed))
        log = await get_log(store, batch)
        assert [t.revision for t in log] == [*range(1, batch.revision + 1)]
        then: dict[int, Document] = {}
        assert await get_documents(store, batch, as_of=0) == []
        for transition in log:
            if transition.document:
                then[transition.document.position] = transition.document
            actual = await get_documents(store, batch, as_of=transition.revision)
            # A document without later transitions has its newest counters.
            assert [
                replace(one, progress=then[index].progress) for index, one in enumerate(actual)
            ] == list(then.values())
            for one in actual:
                logged = then[one.position].progress
                assert one.progress.completed_segments >= logged.completed_segments
        assert actual == await get_documents(store, batch)
        middle = batch.revision // 2
        whole = await get_documents(store, batch, as_of=middle)
        for index, one in enumerate(whole, 1):
            rest = await get_documents(store, batch, after_position=one.position, as_of=middle)
            assert rest == whole[index:]

    # Histories.

    @pytest.mark.parametrize("seed", range(2))
    async def test_history_of_a_document_is_its_part_of_the_log(
        self, store: Store, seed: int
    ) -> None:
        await create(store, "other", documents=3)
        batch = await make_history(store, random.Random(seed))
        log = await get_log(store, batch)
        for document in await get_documents(store, batch):
            mine = [t for t in log if t.document and t.document.document_id == document.document_id]
            for after in (0, mine[0].revision, mine[-1].revision - 1, mine[-1].revision):

                def query(
                    tx: ReadTransaction, document: Document = document, after: int = after
                ) -> list[Transition]:
                    actual = tx.iterate_transitions(batch, after_revision=after, document=document)
                    return list(actual)

                assert await store.read(query, visible=ALL) == [
                    t for t in mine if t.revision > after
                ]


MOVES: list[Callable[[Document, int], Any]] = [
    started,
    *(report_of(stage=stage) for stage in Stage),
    report_of(error=ERROR),
    report_of(stage=Stage.CLEANING, progress=counted(2, 9)),
    report_of(progress=counted(5)),
    report_of(progress=Progress(step=Step(name="pages", completed=3, total=7))),
    report_of(stage=Stage.SPLITTING, progress=Progress(step=Step(name="tables"))),
    lambda actual, now: pause(actual, now=now),
    lambda actual, _: resume(actual),
    lambda actual, now: stop(actual, now=now),
    lambda actual, _: retry(actual),
]


async def make_history(store: Store, rng: random.Random, *, calls: int = 40) -> Batch:
    """Return a batch changed by random calls, some of them refused."""
    batch = await create(store, documents=3, sealed=False)

    def add(tx: WriteTransaction) -> None:
        edit = edit_of(tx, stored_batch(tx))
        register_documents(edit, 1)
        tx.save(edit)

    for _ in range(calls):
        if rng.random() < 0.1:
            await store.write(add, visible=ALL)
            continue
        documents = (await get_batch(store)).counts.total
        numbers = rng.sample(range(documents), rng.randrange(1, documents))
        moves = [(number, rng.choice(MOVES)) for number in numbers]
        try:
            await move(store, batch, *moves)
        except StagecastError:
            continue
    return await get_batch(store)


def stored_batch(tx: ReadTransaction) -> Batch:
    batch = tx.find_batch(DATASET_ID, BATCH_ID)
    assert batch is not None
    return batch
