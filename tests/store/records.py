"""Contract of stores: batches, documents, transitions, counters and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from stagecast.model import (
    ALL,
    Batch,
    Creation,
    Dataset,
    DatasetState,
    Document,
    DocumentCounts,
    DocumentState,
    Progress,
    SegmentTotals,
    Stage,
    Step,
    Transition,
    TransitionKind,
    dataset_state,
    pause,
    register,
    retry,
    stall,
    stop,
)
from stagecast.store import Commits, ReadTransaction, Store, WriteTransaction
from tests import builders
from tests.builders import (
    BATCH_ID,
    DATASET_ID,
    ERROR,
    Move,
    counted,
    create,
    edit_of,
    get_batch,
    get_dataset,
    get_documents,
    get_log,
    get_progress,
    move,
    register_documents,
    report_of,
    started,
)
from tests.clock import START_US, Clock

LABELS = {"ключ": 'Wert "ß" \\ 漢字 🗂', "empty": ""}
OTHER_DATASET_ID = "00000000-1111-4222-8333-444444444444"


def ids_of(documents: Sequence[Document]) -> list[str]:
    return [actual.document_id for actual in documents]


class RecordsContract:
    """A part of `StoreContract`."""

    # Round trips.

    async def test_batch_is_loaded_as_saved(self, store: Store, clock: Clock) -> None:
        saved = await create(
            store, documents=2, labels=LABELS, stall_after_us=7, fail_after_us=2**53 + 1
        )
        assert await get_batch(store) == saved
        assert saved.labels == LABELS
        assert (saved.revision, saved.created_at, saved.ended_at) == (4, START_US, None)
        clock.advance(1.5)
        done = report_of(stage=Stage.COMPLETED, progress=counted(3, 4))
        ended = await move(store, saved, (0, done), (1, report_of(error=ERROR)))
        assert await get_batch(store) == ended
        assert ended.ended_at == ended.updated_at == START_US + 1_500_000
        assert ended.segments == SegmentTotals(completed=3, total=4, unknown=1)
        assert ended.counts == DocumentCounts(succeeded=1, failed=1)

    async def test_missing_records_are_none(self, store: Store) -> None:
        batch = await create(store, documents=1)

        def query(tx: ReadTransaction) -> list[object]:
            return [
                tx.find_dataset(OTHER_DATASET_ID),
                tx.find_batch(OTHER_DATASET_ID, BATCH_ID),
                tx.find_batch(DATASET_ID, "other"),
                tx.find_write_id(batch, 99) or None,
                tx.find_documents(batch, ["missing"]) or None,
                tx.find_documents(batch, []) or None,
            ]

        assert await store.read(query, visible=ALL) == [None] * 6

    async def test_new_document_is_loaded_as_registered(self, store: Store) -> None:
        def call(tx: WriteTransaction) -> tuple[Batch, Document]:
            edit = tx.new_batch(builders.batch(key=0), builders.creation())
            edit.create()
            edit.register(
                register(
                    dataset_id=DATASET_ID,
                    batch_id=BATCH_ID,
                    document_id='https://häfen.example/a?b=%20#\'; "c"',
                    position=0,
                    display_name="Übersicht 'neu' 🗂.pdf",
                    labels=LABELS,
                    now=edit.now,
                )
            )
            tx.save(edit)
            [added] = edit.added.values()
            return edit.batch, added

        batch, registered = await store.write(call, visible=ALL)
        assert await get_documents(store, batch) == [registered]
        assert registered.revision == 2
        [_, transition] = await get_log(store, batch)
        assert transition.document == registered

    @pytest.mark.parametrize(
        "moves",
        [
            [started],
            [started, report_of(stage=Stage.INDEXING, progress=counted(3, 2**40))],
            [report_of(progress=counted(0, 0))],
            [report_of(progress=Progress(step=Step(name="Seiten «»", completed=3, total=2**31)))],
            [started, report_of(stage=Stage.PARSING, progress=Progress(step=Step(name="p")))],
            [started, lambda actual, _now: stall(actual)],
            [started, lambda actual, now: pause(actual, now=now)],
            [report_of(stage=Stage.COMPLETED)],
            [report_of(stage=Stage.PARSING, error=replace(ERROR, message="«Seite 3»\n\t漢字 🗂"))],
            [report_of(error=replace(ERROR, message=""))],
            [lambda actual, now: stop(actual, now=now)],
            [report_of(stage=Stage.COMPLETED), lambda actual, _now: retry(actual)],
        ],
    )
    async def test_document_is_loaded_as_saved(
        self, store: Store, clock: Clock, moves: list[Move]
    ) -> None:
        batch = await create(store, documents=2)
        clock.advance(1)

        def call(tx: WriteTransaction) -> list[Document]:
            edit = edit_of(tx, batch)
            other, actual = tx.find_documents(batch, ["doc-0", "doc-1"]).values()
            for change in moves:
                actual = edit.apply(actual, change(actual, edit.now))
            tx.save(edit)
            return [other, actual]

        saved = await store.write(call, visible=ALL)
        assert await get_documents(store, batch) == saved

    async def test_transitions_are_loaded_as_saved(self, store: Store, clock: Clock) -> None:
        batch = await create(store, documents=2)
        clock.advance(1)

        def call(tx: WriteTransaction) -> list[Transition]:
            edit = edit_of(tx, batch)
            actual = tx.find_documents(batch, ["doc-1"])["doc-1"]
            actual = edit.apply(actual, started(actual, edit.now))
            failed = report_of(error=ERROR, progress=counted(1, 9))(actual, edit.now)
            edit.apply(actual, failed, event_at=-5)
            tx.save(edit)
            return edit.transitions

        saved = await store.write(call, visible=ALL)
        assert [(t.kind, t.event_at) for t in saved] == [
            (TransitionKind.STARTED, None),
            (TransitionKind.FAILED, -5),
        ]
        assert await get_log(store, batch, after_revision=4) == saved
        kinds = " ".join(t.kind.name for t in await get_log(store, batch))
        assert kinds == "CREATED REGISTERED REGISTERED SEALED STARTED FAILED"

    async def test_transition_has_its_document_as_of_that_revision(self, store: Store) -> None:
        batch = await create(store, documents=1)
        await move(store, batch, (0, started))
        await move(store, batch, (0, report_of(progress=counted(1, 5))))
        await move(store, batch, (0, report_of(stage=Stage.INDEXING, progress=counted(3))))
        await move(store, batch, (0, report_of(error=ERROR)))
        await move(store, batch, (0, lambda actual, _now: retry(actual)))
        then = [t.document for t in await get_log(store, batch) if t.document]
        assert [(d.revision, d.state.name, d.stage.name, d.attempt) for d in then] == [
            (2, "PENDING", "WAITING", 1),
            (4, "RUNNING", "WAITING", 1),
            (5, "RUNNING", "INDEXING", 1),
            (6, "FAILED", "INDEXING", 1),
            (7, "PENDING", "WAITING", 2),
        ]
        none, some = counted(0), counted(3, 5)
        assert [d.progress for d in then] == [none, none, some, some, none]
        assert [d.error for d in then] == [None, None, None, ERROR, None]

    async def test_batch_is_found_by_its_request_within_its_dataset(self, store: Store) -> None:
        made = Creation(fingerprint=bytes(range(256)), documents=3, request_id="Anfrage ü")
        one = await create(store, "one", made_by=made)
        other = await create(store, "one", made_by=made, dataset_id=OTHER_DATASET_ID)
        await create(store, "two")

        def call(tx: WriteTransaction) -> list[object]:
            ids = (DATASET_ID, OTHER_DATASET_ID)
            actual = [tx.find_batch_by_request(dataset_id, "Anfrage ü") for dataset_id in ids]
            return [*actual, tx.find_batch_by_request(DATASET_ID, "?"), tx.get_creation(one)]

        assert await store.write(call, visible=ALL) == [one, other, None, made]

    # Documents.

    async def test_documents_are_in_the_order_of_registration(self, store: Store) -> None:
        batch = await create(store, documents=12, sealed=False)

        def add(tx: WriteTransaction) -> Batch:
            edit = edit_of(tx, batch)
            register_documents(edit, 3)
            tx.save(edit)
            return edit.batch

        batch = await store.write(add, visible=ALL)
        await move(store, batch, (5, started))
        numbers = [f"doc-{number}" for number in range(15)]
        assert ids_of(await get_documents(store, batch)) == numbers
        assert ids_of(await get_documents(store, batch, after_position=9)) == numbers[10:]
        assert await get_documents(store, batch, after_position=14) == []

    async def test_documents_are_filtered_by_states_and_stages(self, store: Store) -> None:
        batch = await create(store, documents=5)
        await move(
            store,
            batch,
            (1, report_of(stage=Stage.PARSING)),
            (2, report_of(stage=Stage.INDEXING)),
            (3, report_of(stage=Stage.INDEXING, error=ERROR)),
            (4, started),
        )
        for states, stages, numbers in (
            ({DocumentState.RUNNING}, {}, [1, 2, 4]),
            ({DocumentState.PENDING, DocumentState.FAILED}, {}, [0, 3]),
            ({}, {Stage.INDEXING}, [2, 3]),
            ({}, {Stage.WAITING, Stage.PARSING}, [0, 1, 4]),
            ({DocumentState.RUNNING}, {Stage.INDEXING, Stage.PARSING}, [1, 2]),
            ({DocumentState.STOPPED}, {}, []),
            (set(DocumentState), set(Stage), [0, 1, 2, 3, 4]),
        ):
            actual = await get_documents(store, batch, states=states, stages=stages)
            assert ids_of(actual) == [f"doc-{number}" for number in numbers]
        later = await get_documents(
            store, batch, after_position=2, states={DocumentState.RUNNING}, stages={Stage.WAITING}
        )
        assert ids_of(later) == ["doc-4"]

    async def test_documents_are_found_by_one_id_and_by_thousands(self, store: Store) -> None:
        batch = await create(store, "big", documents=3_000)
        await create(store, "other", documents=2)
        for existing in (["doc-7"], ["doc-7", "doc-9"], [f"doc-{n}" for n in range(3_000)]):
            requested = [*existing, "missing"] if len(existing) > 1 else existing

            def find(tx: ReadTransaction, requested: list[str] = requested) -> dict[str, Document]:
                return tx.find_documents(batch, requested)

            actual = await store.read(find, visible=ALL)
            assert sorted(actual) == sorted(existing)
            assert all(actual[name].document_id == name for name in existing)
            assert {one.batch_id for one in actual.values()} == {"big"}

    # Progress and write ids.

    async def test_progress_is_found_by_its_progress_seq(self, store: Store) -> None:
        batch = await create(store, documents=3)
        assert await get_progress(store, batch, after_seq=0) == []
        batch = await move(store, batch, (2, report_of(progress=counted(1))))
        batch = await move(store, batch, (0, report_of(progress=counted(2, 9))))
        batch = await move(store, batch, (1, report_of(stage=Stage.PARSING, progress=counted(3))))
        batch = await move(store, batch, (2, report_of(progress=counted(4))))
        assert (batch.progress_seq, await get_batch(store)) == (3, batch)
        assert batch.segments == SegmentTotals(completed=9, total=9, unknown=2)
        # doc-1's counters came with a transition; of doc-2 only the newest are stored.
        actual = await get_progress(store, batch, after_seq=0)
        assert [(progress_seq, one.document_id, one.progress) for progress_seq, one in actual] == [
            (2, "doc-0", counted(2, 9)),
            (3, "doc-2", counted(4)),
        ]
        for after, progress_seqs in ((-1, [2, 3]), (1, [2, 3]), (2, [3]), (3, [])):
            actual = await get_progress(store, batch, after_seq=after)
            assert [progress_seq for progress_seq, _ in actual] == progress_seqs
        await move(store, batch, (0, started))  # a transition keeps the progress_seq
        [(progress_seq, one), _] = await get_progress(store, batch, after_seq=1)
        assert (progress_seq, one.state) == (2, DocumentState.RUNNING)

    async def test_step_has_a_progress_seq_as_counters_have(self, store: Store) -> None:
        batch = await create(store, documents=2)
        steps = [Progress(step=Step(name="pages", completed=number)) for number in range(3)]
        for step in steps:
            batch = await move(store, batch, (1, report_of(progress=step)))
        assert (batch.progress_seq, batch.segments) == (3, SegmentTotals(unknown=2))
        [(progress_seq, one)] = await get_progress(store, batch, after_seq=0)
        assert (progress_seq, one.progress) == (3, steps[2])
        batch = await move(store, batch, (1, report_of(stage=Stage.PARSING)))
        [(progress_seq, one)] = await get_progress(store, batch, after_seq=0)
        assert (progress_seq, one.progress) == (3, Progress()), "the stage began without a step"

    async def test_transition_has_the_step_of_that_moment(self, store: Store) -> None:
        batch = await create(store, documents=1)
        in_step = Progress(step=Step(name="pages", completed=3, total=7))
        await move(store, batch, (0, report_of(stage=Stage.PARSING, progress=in_step)))
        await move(store, batch, (0, report_of(progress=Progress(step=Step(name="tables")))))
        await move(store, batch, (0, report_of(error=ERROR)))
        await move(store, batch, (0, lambda actual, _now: retry(actual)))
        then = [t.document for t in await get_log(store, batch) if t.document]
        assert [one.progress.step and one.progress.step.name for one in then] == [
            *(None, "pages"),
            *("tables", None),
        ]

    async def test_transitions_of_one_call_share_its_write_id(self, store: Store) -> None:
        batch = await create(store, documents=2)
        await move(store, batch, (0, started), (1, started))
        await move(store, batch, (0, report_of(stage=Stage.PARSING)))
        calls = [t.write_id for t in await get_log(store, batch)]
        assert len(set(calls[:4])) == len(set(calls[4:6])) == 1
        assert len({calls[0], calls[4], calls[6]}) == 3
        actual = await store.read(
            lambda tx: [tx.find_write_id(batch, n) for n in range(1, 9)], visible=ALL
        )
        assert actual == [*calls, None]

    # Datasets.

    async def test_dataset_counts_are_sums_over_its_batches(self, store: Store) -> None:
        one = await create(store, "one", documents=3)
        assert await get_dataset(store) == builders.dataset(
            batches=1,
            open_batches=1,
            pending_batches=1,
            counts=DocumentCounts(pending=3),
            updated_at=START_US,
        )
        two = await create(store, "two", documents=2)
        await create(store, "elsewhere", documents=9, dataset_id=OTHER_DATASET_ID)
        await move(store, one, (0, started), (1, report_of(error=ERROR)))
        await move(store, one, (0, lambda actual, _now: stall(actual)))
        actual = await get_dataset(store)
        assert (actual.batches, actual.open_batches, actual.pending_batches) == (2, 2, 1)
        assert actual.counts == DocumentCounts(pending=3, running=1, failed=1, stalled=1)
        assert dataset_state(actual) is DatasetState.RUNNING
        await move(store, one, *((n, report_of(stage=Stage.COMPLETED)) for n in (0, 2)))
        await move(store, two, *((n, report_of(stage=Stage.COMPLETED)) for n in (0, 1)))
        actual = await get_dataset(store)
        assert (actual.batches, actual.open_batches, actual.pending_batches) == (2, 0, 0)
        assert actual.counts == DocumentCounts(succeeded=4, failed=1)
        assert dataset_state(actual) is DatasetState.SUCCEEDED  # `two` ended last
        await move(store, one, (1, lambda actual, _now: retry(actual)))
        await move(store, one, (1, report_of(error=ERROR)))
        assert dataset_state(await get_dataset(store)) is DatasetState.FAILED

    async def test_dataset_is_named_and_keeps_its_name(
        self, store: Store, clock: Clock, committed: list[Commits]
    ) -> None:
        async def name(display_name: str) -> None:
            committed.clear()
            await store.write(lambda tx: tx.name_dataset(DATASET_ID, display_name), visible=ALL)

        batch = await create(store, documents=1)
        before = await get_dataset(store)
        heads = {await store.read(lambda tx: tx.find_dataset_heads(None), visible=ALL)}
        assert before.display_name == ""
        for display_name in ("Händbuch «1»", "Handbook"):
            clock.advance(1)
            await name(display_name)
            assert committed == [{(DATASET_ID,): None}]
            assert await get_dataset(store) == replace(before, display_name=display_name)
            heads.add(await store.read(lambda tx: tx.find_dataset_heads(None), visible=ALL))
        assert len(heads) == 3, "each change is news"
        await name("Handbook")
        assert not any(committed), "nothing has changed"
        await move(store, batch, (0, started))
        actual = await get_dataset(store)
        assert (actual.display_name, actual.counts.running) == ("Handbook", 1)

    async def test_new_batch_can_name_its_dataset(self, store: Store) -> None:
        def make(tx: WriteTransaction) -> None:
            edit = tx.new_batch(builders.batch(key=0), builders.creation())
            edit.create()
            tx.name_dataset(DATASET_ID, "Handbook")
            tx.save(edit)

        await store.write(make, visible=ALL)
        actual = await get_dataset(store)
        assert (actual.display_name, actual.batches) == ("Handbook", 1)

    async def test_datasets_are_listed_ordered_by_id(self, store: Store) -> None:
        names = sorted(f"{number:08x}-1111-4222-8333-444444444444" for number in range(5))
        for name in reversed(names):
            await create(store, dataset_id=name)
        for requested, listed in (
            (None, names),
            ([names[3], "unknown", names[1]], [names[1], names[3]]),
            ([], []),
            ([f"{n:08x}-1111-4222-8333-444444444444" for n in range(3_000)], names),
        ):

            def read(tx: ReadTransaction, requested: list[str] | None = requested) -> list[Dataset]:
                return list(tx.iterate_datasets(requested))

            actual = await store.read(read, visible=ALL)
            assert [one.dataset_id for one in actual] == listed
