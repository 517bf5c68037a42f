"""Contract of stores: transactions restricted to visible datasets.

Each method of the protocols is called on restricted transactions; a method without an entry here,
or missing from them, fails a test.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stagecast.errors import DatasetNotFound
from stagecast.model import ALL, Batch, Visibility
from stagecast.store import HistoryLimit, Lease, ReadTransaction, Store, Wanted, WriteTransaction
from tests.builders import BATCH_ID, DATASET_ID, batch, create, creation, edit_of
from tests.clock import Clock
from tests.store.deletion import OTHER_DATASET_ID

THIRD_DATASET_ID = "3d813cbb-47fb-42ba-91df-831e1593ac29"
NOTHING = Visibility(frozenset())
ONE = Visibility(frozenset({DATASET_ID}))
ANOTHER = Visibility(frozenset({OTHER_DATASET_ID}))

NAME = (DATASET_ID, BATCH_ID)
LIMIT = HistoryLimit(ended_until=0, keep=1)
LEASE = Lease(holder=0, renewals=0, reached_at=0)

Call = Callable[[Any], Any]

# Methods that name a dataset or all, and their result if it is invisible.
BY_DATASET: list[tuple[str, Call, Any]] = [
    ("find_dataset", lambda tx: tx.find_dataset(DATASET_ID), None),
    ("iterate_datasets", lambda tx: tx.iterate_datasets(None), []),
    ("iterate_datasets", lambda tx: tx.iterate_datasets([DATASET_ID]), []),
    ("find_dataset_news", lambda tx: _changed(tx, None), []),
    ("find_dataset_news", lambda tx: _changed(tx, [DATASET_ID]), []),
    ("find_dataset_heads", lambda tx: list(tx.find_dataset_heads(None)), []),
    ("find_dataset_heads", lambda tx: list(tx.find_dataset_heads([DATASET_ID])), []),
    ("find_batch", lambda tx: tx.find_batch(*NAME), None),
    ("find_heads", lambda tx: tx.find_heads([NAME]), {}),
    ("iterate_batches", lambda tx: tx.iterate_batches(None), []),
    ("iterate_batches", lambda tx: tx.iterate_batches(DATASET_ID), []),
    ("edit", lambda tx: [edit.batch for edit in tx.edit({NAME: Wanted()})], []),
    ("find_batch_by_request", lambda tx: tx.find_batch_by_request(DATASET_ID, "request"), None),
]

# Methods that take the result of another method, which is visible.
PASSED_THROUGH: dict[str, Callable[[Any, Batch], Any]] = {
    "find_documents": lambda tx, one: tx.find_documents(one, ["doc-0"]),
    "iterate_documents": lambda tx, one: tx.iterate_documents(one),
    "iterate_transitions": lambda tx, one: tx.iterate_transitions(one, after_revision=0),
    "find_encoded_document": lambda tx, one: tx.find_encoded_document(one, "doc-0"),
    "iterate_encoded_documents": lambda tx, one: tx.iterate_encoded_documents(one),
    "iterate_encoded_transitions": lambda tx, one: tx.iterate_encoded_transitions(
        one, after_revision=0
    ),
    "get_page_secret": lambda tx, _: tx.get_page_secret(),
    "find_write_id": lambda tx, one: tx.find_write_id(one, 1),
    "find_progress_seq": lambda tx, one: tx.find_progress_seq(one, 0),
    "iterate_progress": lambda tx, one: tx.iterate_progress(one, after_seq=0),
    "find_silent": lambda tx, one: tx.find_silent(one, ["doc-0"], before=0),
    "get_creation": lambda tx, one: tx.get_creation(one),
    "save": lambda tx, one: tx.save(edit_of(tx, one)),
}
DELETING: dict[str, Call] = {
    "delete_batches": lambda tx: tx.delete_batches([tx.find_batch(*NAME)]),
    "delete_dataset": lambda tx: tx.delete_dataset(tx.find_dataset(DATASET_ID)),
}

# Methods about the whole store.
REFUSED: dict[str, Call] = {
    "find_next_due": lambda tx: tx.find_next_due(),
    "find_idle": lambda tx: tx.find_idle(0, 1),
    "find_lease": lambda tx: tx.find_lease(),
    "has_excess": lambda tx: tx.has_excess(LIMIT),
    "find_ended": lambda tx: tx.find_ended(0, 1),
    "list_keys": lambda tx: tx.list_keys(),
    "get_keys_version": lambda tx: tx.get_keys_version(),
    "find_timers": lambda tx: tx.find_timers(until=None, after=None, limit=1),
    "set_timer": lambda tx: tx.set_timer(None, heard_at=0, due_at=None),
    "set_idle_since": lambda tx: tx.set_idle_since(None, 0),
    "cap_idle_since": lambda tx: tx.cap_idle_since(0),
    "save_lease": lambda tx: tx.save_lease(LEASE),
    "add_key": lambda tx: tx.add_key(None),
    "revoke_key": lambda tx: tx.revoke_key(None),
    "trim": lambda tx: tx.trim(LIMIT, 1),
    "encode": lambda tx: tx.encode(1),
    "sweep": lambda tx: tx.sweep(1),
}


def _methods(protocol: type) -> set[str]:
    return {
        name
        for name, _ in inspect.getmembers(protocol, inspect.isfunction)
        if not name.startswith("_")
    }


def _changed(tx: ReadTransaction, dataset_ids: list[str] | None) -> list[Any]:
    news = tx.find_dataset_news(dataset_ids, after_seq=-1)
    return [*news.changed, *news.removed]


def _whole(answer: Any) -> Any:
    """Consume an iterator."""
    return list(answer) if isinstance(answer, Iterator) else answer


def _runs(store: Store, name: str) -> list[Callable[..., Any]]:
    """Return the functions that can run a method: `write`, and `read` if it has the method."""
    return [store.write, store.read] if name in _methods(ReadTransaction) else [store.write]


class VisibilityContract:
    """A part of `StoreContract`."""

    def test_every_method_has_an_entry(self) -> None:
        tried = {name for name, *_ in BY_DATASET}.union(
            PASSED_THROUGH, DELETING, REFUSED, ["new_batch", "name_dataset"]
        )
        assert tried == _methods(WriteTransaction)

    async def test_transactions_have_every_method(self, store: Store) -> None:
        for run, protocol in ((store.read, ReadTransaction), (store.write, WriteTransaction)):
            has = await run(lambda tx: set(dir(tx)), visible=ONE)
            assert _methods(protocol) <= has

    @pytest.mark.parametrize(
        ("name", "call", "invisible"),
        [pytest.param(*case, id=f"{number}-{case[0]}") for number, case in enumerate(BY_DATASET)],
    )
    async def test_invisible_dataset_looks_like_an_unknown_one(
        self, store: Store, name: str, call: Call, invisible: Any
    ) -> None:
        runs = _runs(store, name)
        for run in runs:
            assert await run(lambda tx: _whole(call(tx)), visible=ALL) == invisible
        await create(store, made_by=creation(request_id="request"))
        for run in runs:
            for visible in (NOTHING, ANOTHER):
                assert await run(lambda tx: _whole(call(tx)), visible=visible) == invisible
            for visible in (ONE, ALL):
                assert await run(lambda tx: _whole(call(tx)), visible=visible) != invisible

    @pytest.mark.parametrize("name", PASSED_THROUGH)
    async def test_visible_dataset_looks_the_same_without_restriction(
        self, store: Store, name: str
    ) -> None:
        await create(store, documents=1)
        for run in _runs(store, name):
            answers = [
                await run(
                    lambda tx: _whole(PASSED_THROUGH[name](tx, tx.find_batch(*NAME))),
                    visible=visible,
                )
                for visible in (ONE, ALL)
            ]
            assert answers[0] == answers[1]

    @pytest.mark.parametrize("name", DELETING)
    async def test_visible_batches_and_datasets_can_be_deleted(
        self, store: Store, name: str
    ) -> None:
        await create(store, documents=1)
        await store.write(DELETING[name], visible=ONE)
        assert await store.read(lambda tx: tx.find_batch(*NAME), visible=ALL) is None

    @pytest.mark.parametrize("name", REFUSED)
    async def test_methods_about_the_whole_store_are_refused(self, store: Store, name: str) -> None:
        for run in _runs(store, name):
            with pytest.raises(AssertionError, match="restricted visibility"):
                await run(REFUSED[name], visible=ONE)

    async def test_batch_is_created_in_visible_datasets_only(self, store: Store) -> None:
        def make(tx: WriteTransaction) -> Batch:
            edit = tx.new_batch(batch(key=0), creation())
            edit.create()
            tx.save(edit)
            return edit.batch

        for visible in (NOTHING, ANOTHER):
            with pytest.raises(DatasetNotFound):
                await store.write(make, visible=visible)
        assert await store.read(lambda tx: tx.find_dataset(DATASET_ID), visible=ALL) is None
        made = await store.write(make, visible=ONE)
        assert await store.read(lambda tx: tx.find_batch(*NAME), visible=ALL) == made

    async def test_only_visible_datasets_are_named(self, store: Store) -> None:
        await create(store)
        for visible in (NOTHING, ANOTHER):
            with pytest.raises(DatasetNotFound):
                await store.write(lambda tx: tx.name_dataset(DATASET_ID, "no"), visible=visible)
        await store.write(lambda tx: tx.name_dataset(DATASET_ID, "yes"), visible=ONE)
        named = await store.read(lambda tx: tx.find_dataset(DATASET_ID), visible=ALL)
        assert named is not None
        assert named.display_name == "yes"

    async def test_restricted_write_has_the_commit_time(self, store: Store, clock: Clock) -> None:
        assert await store.write(lambda tx: tx.now, visible=ONE) == clock()

    async def test_removed_dataset_is_news_if_it_was_visible(self, store: Store) -> None:
        await create(store)
        await store.write(DELETING["delete_dataset"], visible=ALL)
        news = [
            await store.read(lambda tx: _changed(tx, None), visible=visible)
            for visible in (ALL, ONE, ANOTHER, NOTHING)
        ]
        assert news == [[DATASET_ID], [DATASET_ID], [], []]

    async def test_batches_of_several_datasets_are_newest_first(self, store: Store) -> None:
        for batch_id in (BATCH_ID, "later"):
            for dataset_id in (DATASET_ID, THIRD_DATASET_ID, OTHER_DATASET_ID):
                await create(store, batch_id, dataset_id=dataset_id)
        visible = Visibility(frozenset({DATASET_ID, OTHER_DATASET_ID}))
        actual = await store.read(lambda tx: list(tx.iterate_batches(None)), visible=visible)
        assert [(one.dataset_id, one.batch_id) for one in actual] == [
            (OTHER_DATASET_ID, "later"),
            (DATASET_ID, "later"),
            (OTHER_DATASET_ID, BATCH_ID),
            (DATASET_ID, BATCH_ID),
        ]
