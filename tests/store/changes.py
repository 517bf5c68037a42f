"""Contract of stores: changes of one batch, decided in groups, and what a commit tells of them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from stagecast.errors import BatchNotFound, BatchSealed, DocumentNotFound
from stagecast.model import (
    ALL,
    BatchEdit,
    BatchState,
    Document,
    DocumentCounts,
    DocumentState,
    Stage,
    Visibility,
    pause,
    recover,
    retry,
    stop,
)
from stagecast.store import (
    BatchName,
    Commits,
    Committed,
    HistoryLimit,
    Store,
    Wanted,
    WriteTransaction,
)
from stagecast.store import get_batch as find_batch
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
    move,
    register_documents,
    report_of,
    started,
)
from tests.clock import Clock
from tests.conditions import until

NAME: BatchName = (DATASET_ID, BATCH_ID)
OPEN = (DocumentState.PENDING, DocumentState.RUNNING, DocumentState.PAUSED)

ended, failed = report_of(stage=Stage.COMPLETED), report_of(error=ERROR)
retried: Move = lambda actual, _: retry(actual)  # noqa: E731 - one of a list of moves
paused: Move = lambda actual, now: pause(actual, now=now)  # noqa: E731


async def together(store: Store, *calls: Awaitable[Any]) -> list[Any]:
    """Run calls as one group: they are queued while another call holds the writer.

    Returns:
        Their results and errors.
    """
    begun, held = threading.Event(), threading.Event()

    def hold(_: WriteTransaction) -> None:
        begun.set()
        held.wait()

    holding = asyncio.ensure_future(store.write(hold, visible=ALL))
    await until(begun.is_set)
    running = []
    for call in calls:
        running.append(asyncio.ensure_future(call))
        await asyncio.sleep(0)  # it is queued
    held.set()
    await holding
    return await asyncio.gather(*running, return_exceptions=True)


def stop_all(edit: BatchEdit) -> int:
    for document in [*edit.documents.values()]:
        edit.apply(document, stop(document, now=edit.now))
    return len(edit.changed)


async def change(store: Store, decide: Any, *ids: str, name: BatchName = NAME) -> Any:
    return await store.change(name, Wanted(document_ids=ids), decide, visible=ALL)


def of_batch(committed: Sequence[Commits], name: BatchName = NAME) -> list[Committed]:
    """Return the notices about a batch."""
    notices = [commits[name] for commits in committed if name in commits]
    assert all(notice is not None for notice in notices)
    return [notice for notice in notices if notice is not None]


async def check_notices(store: Store, notices: Sequence[Committed], first: int = 0) -> None:
    """Check that notices continue each other and are what the log has from a revision on."""
    batch = await get_batch(store)
    log = await get_log(store, batch)
    assert [t for notice in notices for t in notice.transitions] == log[first:]
    last = (log[first - 1].revision, log[first - 1].write_id) if first else (0, 0)
    for notice in notices:
        assert notice.before == last
        if notice.transitions:
            last = (notice.transitions[-1].revision, notice.transitions[-1].write_id)
        assert notice.batch.revision == last[0]
    assert notices[-1].batch == batch


class ChangesContract:
    """A part of `StoreContract`."""

    async def test_change_is_saved_as_decided(self, store: Store) -> None:
        await create(store, documents=3)

        def decide(edit: BatchEdit) -> tuple[BatchEdit, Document]:
            document = edit.get_document("doc-1")
            return edit, edit.apply(document, started(document, edit.now))

        edit, document = await change(store, decide, "doc-1")
        batch = await get_batch(store)
        assert batch == edit.batch
        assert (await get_documents(store, batch))[1] == document
        assert await get_log(store, batch, 5) == edit.transitions
        assert (await get_dataset(store)).counts == DocumentCounts(pending=2, running=1)

    async def test_change_sees_the_documents_that_it_wants_and_no_others(
        self, store: Store
    ) -> None:
        batch = await create(store, documents=5)
        await move(store, batch, (1, started), (3, started), (4, ended))

        async def wanted_ids(wanted: Wanted) -> list[str]:
            return await store.change(NAME, wanted, lambda edit: [*edit.documents], visible=ALL)

        assert await wanted_ids(Wanted()) == []
        assert await wanted_ids(Wanted(document_ids=["doc-3", "nope", "doc-0"])) == [
            "doc-3",
            "doc-0",
        ]
        assert await wanted_ids(Wanted(states=[DocumentState.RUNNING])) == ["doc-1", "doc-3"]
        assert await wanted_ids(Wanted(states=OPEN)) == ["doc-0", "doc-1", "doc-2", "doc-3"]

    async def test_change_of_a_missing_batch_is_refused(self, store: Store) -> None:
        await create(store)
        for wanted in (Wanted(), Wanted(states=OPEN)):
            for name in ((DATASET_ID, "other"), ("00000000-1111-4222-8333-444444444444", BATCH_ID)):
                with pytest.raises(BatchNotFound):
                    await store.change(name, wanted, lambda _: None, visible=ALL)

    @pytest.mark.parametrize("wanted", [Wanted(document_ids=["doc-0"]), Wanted(states=OPEN)])
    async def test_change_of_an_invisible_batch_is_refused_like_a_missing_one(
        self, store: Store, wanted: Wanted
    ) -> None:
        batch = await create(store, documents=1)
        with pytest.raises(BatchNotFound) as caught:
            await store.change(NAME, wanted, stop_all, visible=Visibility(frozenset()))
        missing = BatchNotFound(*NAME)
        assert (str(caught.value), caught.value.metadata) == (str(missing), missing.metadata)
        assert await get_batch(store) == batch
        visible = Visibility(frozenset({DATASET_ID}))
        assert await store.change(NAME, wanted, stop_all, visible=visible) == 1

    async def test_missing_document_is_refused_with_one_that_looks_the_same(
        self, store: Store
    ) -> None:
        await create(store, documents=1)
        with pytest.raises(DocumentNotFound, match="no document 'doc-9'"):
            await change(store, lambda edit: edit.get_document("doc-9"), "doc-9")

    async def test_each_call_of_a_group_has_revisions_and_a_write_id_of_its_own(
        self, store: Store, committed: list[Commits]
    ) -> None:
        """Also if they change the same documents, and others among them are refused."""
        batch = await create(store, documents=2)

        def refuse(edit: BatchEdit) -> None:
            document = edit.get_document("doc-0")
            edit.apply(document, stop(document, now=edit.now))
            edit.seal()
            raise BatchSealed("no", batch_id=BATCH_ID)

        stages = [Stage.PARSING, Stage.CLEANING, Stage.SPLITTING, Stage.INDEXING, Stage.COMPLETED]
        calls = [
            call
            for stage in stages
            for call in (
                move(store, batch, (0, report_of(stage=stage)), (1, report_of(stage=stage))),
                change(store, refuse, "doc-0"),
            )
        ]
        committed.clear()
        answers = await together(store, *calls)
        assert [answer.revision for answer in answers[::2]] == [6, 8, 10, 12, 14]
        assert all(isinstance(answer, BatchSealed) for answer in answers[1::2])
        log = await get_log(store, batch, 4)
        assert [t.revision for t in log] == [*range(5, 15)]
        assert [t.document and t.document.stage for t in log[::2]] == stages
        shared = [one.write_id == other.write_id for one, other in pairwise(log)]
        assert shared == [True, *[False, True] * 4]
        assert len(committed) == 1
        await check_notices(store, of_batch(committed), 4)
        assert (await get_dataset(store)).counts == DocumentCounts(succeeded=2)

    async def test_write_of_a_group_sees_the_changes_before_it(self, store: Store) -> None:
        batch = await create(store, documents=3)

        def describe(tx: WriteTransaction) -> list[Any]:
            stored = find_batch(tx, *NAME)
            dataset = tx.find_dataset(DATASET_ID)
            assert dataset
            return [
                stored.revision,
                [one.state.name for one in tx.iterate_documents(stored)],
                len([*tx.iterate_transitions(stored, after_revision=0)]),
                dataset.counts.running,
            ]

        answers = await together(
            store,
            move(store, batch, (0, started)),
            store.write(describe, visible=ALL),
            move(store, batch, (1, started)),
            move(store, batch, (2, started)),
            store.write(describe, visible=ALL),
        )
        assert answers[1] == [6, ["RUNNING", "PENDING", "PENDING"], 6, 1]
        assert answers[4] == [8, ["RUNNING"] * 3, 8, 3]

    async def test_change_of_a_group_sees_the_writes_before_it(self, store: Store) -> None:
        batch = await create(store, documents=1, sealed=False)

        def add(tx: WriteTransaction) -> None:
            edit = edit_of(tx, find_batch(tx, *NAME), "doc-0")
            register_documents(edit, 1)
            document = edit.get_document("doc-0")
            edit.apply(document, started(document, edit.now))
            tx.save(edit)

        answers = await together(
            store,
            move(store, batch, (0, report_of(progress=counted(1)))),
            store.write(add, visible=ALL),
            move(store, batch, (1, started)),
            move(store, batch, (0, ended)),
        )
        assert answers[-1].counts == DocumentCounts(running=1, succeeded=1)
        assert await get_batch(store) == answers[-1]

    @pytest.mark.parametrize("error", [RuntimeError, ArithmeticError, StopIteration])
    async def test_change_that_fails_is_rolled_back_and_fails_alone(
        self, store: Store, committed: list[Commits], error: type[Exception]
    ) -> None:
        batch = await create(store, documents=20)

        def fail(edit: BatchEdit) -> None:
            document = edit.get_document("doc-3")
            edit.apply(document, stop(document, now=edit.now))
            raise error("broken")

        calls = [move(store, batch, (number, started)) for number in range(20)]
        calls.insert(7, change(store, fail, "doc-3"))
        answers = await together(store, *calls)
        assert isinstance(answers.pop(7), Exception)
        assert [answer.revision for answer in answers] == [*range(23, 43)]
        assert (await get_batch(store)).counts == DocumentCounts(running=20)
        await check_notices(store, of_batch(committed))

    async def test_documents_added_in_a_group_can_be_changed_in_it(self, store: Store) -> None:
        batch = await create(store, documents=1, sealed=False)

        def seal(edit: BatchEdit) -> None:
            edit.seal()

        answers = await together(
            store,
            change(store, lambda edit: register_documents(edit, 2)),
            move(store, batch, (2, started)),
            move(store, batch, (2, ended), (1, failed)),
            change(store, seal),
            move(store, batch, (0, ended)),
        )
        stored = await get_batch(store)
        assert stored == answers[-1]
        assert stored.ended_at is not None
        states = [one.state.name for one in await get_documents(store, stored)]
        assert states == ["SUCCEEDED", "FAILED", "SUCCEEDED"]

    @pytest.mark.parametrize("keys", [(0, 1), (1, 0)])
    async def test_batch_whose_call_is_the_last_of_a_group_ended_last(
        self, store: Store, keys: tuple[int, int]
    ) -> None:
        batches = [await create(store, f"b-{number}", documents=1) for number in range(2)]
        first, last = (batches[key] for key in keys)
        await together(store, move(store, first, (0, failed)), move(store, last, (0, ended)))
        assert (await get_dataset(store)).last_ended is BatchState.SUCCEEDED

    async def test_sign_of_life_after_the_end_of_a_batch_does_not_end_it_once_more(
        self, store: Store
    ) -> None:
        one, two = [await create(store, name, documents=1) for name in ("one", "two")]

        def repeat(edit: BatchEdit) -> None:
            edit.record_heartbeat(edit.get_document("doc-0"))

        repeated = store.change(
            (DATASET_ID, "one"), Wanted(document_ids=["doc-0"]), repeat, visible=ALL
        )
        await together(store, move(store, one, (0, failed)), move(store, two, (0, ended)), repeated)
        assert (await get_dataset(store)).last_ended is BatchState.SUCCEEDED

    # Timers.

    async def test_timers_of_a_group_are_those_of_its_calls(
        self, store: Store, clock: Clock
    ) -> None:
        spans: dict[str, Any] = {"start_after_us": 90_000_000, "stall_after_us": 60_000_000}
        batch = await create(store, documents=4, **spans)
        await move(store, batch, (0, failed), (1, started), (2, started))
        clock.advance(30)

        def hear(edit: BatchEdit) -> None:
            for document in [*edit.documents.values()]:
                edit.record_heartbeat(edit.apply(document, recover(document)))

        await together(
            store,
            move(store, batch, (0, retried)),
            move(store, batch, (0, report_of(progress=counted(1)))),
            change(store, hear, "doc-1", "doc-2", "doc-3"),
            move(store, batch, (2, paused)),
        )
        timers = await store.write(
            lambda tx: tx.find_timers(until=None, after=None, limit=9), visible=ALL
        )
        heard = {timer.document_id: (timer.heard_at, timer.timeout_us) for timer in timers}
        now = clock.now_us
        assert heard == {
            "doc-0": (now, 90_000_000),
            "doc-1": (now, 60_000_000),
            "doc-3": (now - 30_000_000, 90_000_000),
        }

    # Whole batches.

    async def test_change_of_a_whole_batch_sees_the_changes_before_it(self, store: Store) -> None:
        """Its decision on what was there before is dropped."""
        batch = await create(store, documents=4)
        decided = []

        def decide(edit: BatchEdit) -> int:
            decided.append(len(edit.documents))
            return stop_all(edit)

        whole = store.change(NAME, Wanted(states=OPEN), decide, visible=ALL)
        begun, held = threading.Event(), threading.Event()

        def hold(_: WriteTransaction) -> None:
            begun.set()
            held.wait()

        holding = asyncio.ensure_future(store.write(hold, visible=ALL))
        await until(begun.is_set)
        moving = asyncio.ensure_future(move(store, batch, (1, ended)))
        await asyncio.sleep(0)  # it is queued
        stopping = asyncio.ensure_future(whole)
        await until(lambda: bool(decided))
        await store.read(lambda _: None, visible=ALL)
        await asyncio.sleep(0)
        held.set()
        await asyncio.gather(holding, moving)
        assert await stopping == 3
        stored = await get_batch(store)
        assert stored.counts == DocumentCounts(succeeded=1, stopped=3)
        assert len(await get_log(store, stored)) == stored.revision == 10
        assert gc.isenabled()

    async def test_change_of_a_whole_batch_is_decided_once_if_only_others_change(
        self, store: Store, committed: list[Commits]
    ) -> None:
        batch = await create(store, documents=4)
        other = await create(store, "other", documents=4)
        await move(store, batch, (2, started))
        decided = []

        def decide(edit: BatchEdit) -> int:
            decided.append(edit.batch)
            return stop_all(edit)

        whole = store.change(NAME, Wanted(states=OPEN), decide, visible=ALL)
        answers = await asyncio.gather(
            whole, *(move(store, other, (number, started)) for number in range(4))
        )
        assert answers[0] == 4
        assert len(decided) == 1
        stored = await get_batch(store)
        assert stored.counts == DocumentCounts(stopped=4)
        assert (await move(store, batch, (1, retried))).counts.pending == 1
        await check_notices(store, of_batch(committed))

    async def test_whole_batches_are_decided_one_at_a_time(self, store: Store) -> None:
        """So reads of others go on, and the records of one batch at most are in memory."""
        names = [f"b-{number}" for number in range(6)]
        for name in names:
            await create(store, name, documents=1)
        decided, held = [], threading.Event()

        def decide(edit: BatchEdit) -> int:
            decided.append(edit.batch.batch_id)
            held.wait()
            return stop_all(edit)

        every = [
            asyncio.ensure_future(
                store.change((DATASET_ID, name), Wanted(states=OPEN), decide, visible=ALL)
            )
            for name in names
        ]
        try:
            await until(lambda: bool(decided))
            async with asyncio.timeout(60):
                await store.read(lambda _: None, visible=ALL)
            assert decided == ["b-0"]
            assert not gc.isenabled()
        finally:
            held.set()
        assert await asyncio.gather(*every) == [1] * 6
        assert decided == names
        assert gc.isenabled()

    async def test_collector_runs_again_after_a_change_that_fails(self, store: Store) -> None:
        await create(store, documents=1)

        def fail(_: BatchEdit) -> None:
            assert not gc.isenabled()
            raise RuntimeError("broken")

        with pytest.raises(RuntimeError, match="broken"):
            await store.change(NAME, Wanted(states=OPEN), fail, visible=ALL)
        assert gc.isenabled()

    # Notices.

    async def test_notices_continue_each_other(
        self, store: Store, clock: Clock, committed: list[Commits]
    ) -> None:
        """Also those of counters alone, and after the log was trimmed."""
        batch = await create(store, documents=2)
        await move(store, batch, (0, started))
        await move(store, batch, (1, report_of(progress=counted(3))))
        assert of_batch(committed)[-1].transitions == ()
        assert of_batch(committed)[-1].batch.progress_seq == 1
        await move(store, batch, (0, ended), (1, failed))
        await check_notices(store, of_batch(committed))
        clock.advance(1)
        limit = HistoryLimit(ended_until=clock.now_us, keep=1)
        assert await store.write(lambda tx: tx.trim(limit, 100), visible=ALL) == 6
        [last] = of_batch(committed)[-1].transitions[-1:]
        await move(store, batch, (1, retried))
        notice = of_batch(committed)[-1]
        assert notice.before == (7, last.write_id)
        assert [t.revision for t in notice.transitions] == [8]

    async def test_notice_of_a_deleted_batch_has_nothing(
        self, store: Store, committed: list[Commits]
    ) -> None:
        batch = await create(store, documents=1)

        def delete(tx: WriteTransaction) -> None:
            tx.delete_batches([find_batch(tx, *NAME)])

        committed.clear()
        await together(store, move(store, batch, (0, started)), store.write(delete, visible=ALL))
        assert committed == [{NAME: None}]
        committed.clear()
        again = await create(store, documents=1)
        await check_notices(store, of_batch(committed))
        await together(
            store,
            move(store, again, (0, started)),
            store.write(delete, visible=ALL),
            create(store, documents=2),
        )
        await check_notices(store, of_batch(committed)[1:])
