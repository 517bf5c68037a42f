"""The store as somebody sees it who may see some datasets only: the others are not there.

So whatever is asked of it answers for a dataset out of sight exactly as for one that never was.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar, cast

from stagecast.errors import DatasetNotFound
from stagecast.model import Batch, BatchEdit, BatchState, Creation, Dataset, Sight
from stagecast.store.protocol import BatchName, DatasetNews, Head, Reading, Store, Writing

T = TypeVar("T")


def see(tx: Reading, sight: Sight) -> Reading:
    """Return a view of the same moment without what is out of sight."""
    return tx if sight is None else cast("Reading", _Seen(tx, sight))


class SeenStore:
    """A store without what is out of sight.

    Args:
        store: the whole.
        sight: the datasets that can be seen.
    """

    def __init__(self, store: Store, sight: frozenset[str]) -> None:
        self._store = store
        self._sight = sight

    async def write(self, call: Callable[[Writing], T]) -> T:
        """Run a call in a transaction and return its result after it is on disk."""
        return await self._store.write(
            lambda tx: call(cast("Writing", _SeenWriting(tx, self._sight)))
        )

    async def read(self, query: Callable[[Reading], T]) -> T:
        """Run a query on a view of one moment."""
        return await self._store.read(lambda tx: query(see(tx, self._sight)))

    async def probe(self) -> None:
        """Find out whether the store can be written."""
        await self._store.probe()

    async def close(self) -> None:
        """Do nothing: the store is not ours."""


class _Seen:
    """A view without what is out of sight.

    Every method that names a dataset is here. All others take a batch or a dataset that one of
    these gave, and are those of the whole view; a test looks at the protocol for both.
    """

    def __init__(self, tx: Reading, sight: frozenset[str]) -> None:
        self._tx = tx
        self._sight = sight

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the view has
        return getattr(self._tx, name)

    def find_dataset(self, dataset_id: str) -> Dataset | None:
        return self._tx.find_dataset(dataset_id) if dataset_id in self._sight else None

    def iterate_datasets(
        self, dataset_ids: Collection[str] | None, *, after: str = ""
    ) -> Iterator[Dataset]:
        return self._tx.iterate_datasets(self._seen(dataset_ids), after=after)

    def find_dataset_news(
        self, dataset_ids: Collection[str] | None, *, after_serial: int
    ) -> DatasetNews:
        return self._tx.find_dataset_news(self._seen(dataset_ids), after_serial=after_serial)

    def find_batch(self, dataset_id: str, batch_id: str) -> Batch | None:
        return self._tx.find_batch(dataset_id, batch_id) if dataset_id in self._sight else None

    def find_heads(self, names: Collection[BatchName]) -> dict[BatchName, Head]:
        return self._tx.find_heads([name for name in names if name[0] in self._sight])

    def iterate_batches(
        self,
        dataset_id: str | None,
        *,
        states: Collection[BatchState] = (),
        before_key: int | None = None,
    ) -> Iterator[Batch]:
        dataset_ids = self._seen(None if dataset_id is None else [dataset_id])
        each = (
            self._tx.iterate_batches(one, states=states, before_key=before_key)
            for one in dataset_ids
        )
        return heapq.merge(*each, key=lambda batch: -batch.key)

    def _seen(self, dataset_ids: Collection[str] | None) -> frozenset[str]:
        return self._sight if dataset_ids is None else self._sight.intersection(dataset_ids)


class _SeenWriting(_Seen):
    """A transaction that may also write, and makes nothing out of sight."""

    _tx: Writing

    def __init__(self, tx: Writing, sight: frozenset[str]) -> None:
        super().__init__(tx, sight)

    def find_batch_by_request(self, dataset_id: str, request_id: str) -> Batch | None:
        if dataset_id not in self._sight:
            return None
        return self._tx.find_batch_by_request(dataset_id, request_id)

    def new_batch(self, batch: Batch, creation: Creation) -> BatchEdit:
        if batch.dataset_id not in self._sight:
            raise DatasetNotFound(batch.dataset_id)
        return self._tx.new_batch(batch, creation)
