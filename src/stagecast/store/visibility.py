"""Transactions restricted to the datasets that a caller can see.

An invisible dataset is answered exactly like one that does not exist.

Each method of the protocols is handled here in one of three ways: restricted by the datasets that
it names; passed through, if it takes a result of another method; refused, if it is about the whole
store. A missing method fails the type check and cannot be called.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Never

from stagecast.errors import BatchNotFound, DatasetNotFound
from stagecast.model import Batch, BatchEdit, BatchState, Creation, Dataset, Visibility
from stagecast.store.protocol import (
    BatchName,
    DatasetNews,
    Head,
    ReadTransaction,
    Wanted,
    WriteTransaction,
)


def restrict_read(tx: ReadTransaction, visible: Visibility) -> ReadTransaction:
    """Return the transaction restricted to the visible datasets."""
    return tx if visible.dataset_ids is None else _RestrictedRead(tx, visible.dataset_ids)


def restrict_write(tx: WriteTransaction, visible: Visibility) -> WriteTransaction:
    """Return the transaction restricted to the visible datasets."""
    return tx if visible.dataset_ids is None else _RestrictedWrite(tx, visible.dataset_ids)


def check_visible(name: BatchName, visible: Visibility) -> None:
    """Check that a batch to change is of a visible dataset.

    Raises:
        BatchNotFound: it is not.
    """
    if visible.dataset_ids is not None and name[0] not in visible.dataset_ids:
        raise BatchNotFound(*name)


def _refuse(*_: object, **__: object) -> Never:
    raise AssertionError("not allowed in a transaction with restricted visibility")


class _RestrictedRead:
    find_next_due = find_idle = find_lease = has_excess = find_ended = _refuse
    list_keys = get_keys_version = _refuse

    def __init__(self, tx: ReadTransaction, visible: frozenset[str]) -> None:
        self._tx = tx
        self._visible = visible
        self.find_documents = tx.find_documents
        self.iterate_documents = tx.iterate_documents
        self.iterate_transitions = tx.iterate_transitions
        self.find_encoded_document = tx.find_encoded_document
        self.iterate_encoded_documents = tx.iterate_encoded_documents
        self.iterate_encoded_transitions = tx.iterate_encoded_transitions
        self.get_page_secret = tx.get_page_secret
        self.find_write_id = tx.find_write_id
        self.find_progress_seq = tx.find_progress_seq
        self.iterate_progress = tx.iterate_progress
        self.find_silent = tx.find_silent

    def find_dataset(self, dataset_id: str) -> Dataset | None:
        return self._tx.find_dataset(dataset_id) if dataset_id in self._visible else None

    def iterate_datasets(
        self, dataset_ids: Collection[str] | None, *, after: str = ""
    ) -> Iterator[Dataset]:
        return self._tx.iterate_datasets(self._visible_of(dataset_ids), after=after)

    def find_dataset_news(
        self, dataset_ids: Collection[str] | None, *, after_seq: int
    ) -> DatasetNews:
        return self._tx.find_dataset_news(self._visible_of(dataset_ids), after_seq=after_seq)

    def find_dataset_heads(self, dataset_ids: Collection[str] | None) -> Hashable:
        return self._tx.find_dataset_heads(self._visible_of(dataset_ids))

    def find_batch(self, dataset_id: str, batch_id: str) -> Batch | None:
        return self._tx.find_batch(dataset_id, batch_id) if dataset_id in self._visible else None

    def find_heads(self, names: Collection[BatchName]) -> dict[BatchName, Head]:
        return self._tx.find_heads([name for name in names if name[0] in self._visible])

    def iterate_batches(
        self,
        dataset_id: str | None,
        *,
        states: Collection[BatchState] = (),
        before_key: int | None = None,
    ) -> Iterator[Batch]:
        each = (
            self._tx.iterate_batches(one, states=states, before_key=before_key)
            for one in self._visible_of(None if dataset_id is None else [dataset_id])
        )
        return heapq.merge(*each, key=lambda batch: -batch.key)

    def _visible_of(self, dataset_ids: Collection[str] | None) -> frozenset[str]:
        return self._visible if dataset_ids is None else self._visible.intersection(dataset_ids)


class _RestrictedWrite(_RestrictedRead):
    find_timers = set_timer = set_idle_since = cap_idle_since = save_lease = _refuse
    add_key = revoke_key = trim = encode = sweep = _refuse

    _tx: WriteTransaction

    def __init__(self, tx: WriteTransaction, visible: frozenset[str]) -> None:
        super().__init__(tx, visible)
        self.now = tx.now
        self.get_creation = tx.get_creation
        self.save = tx.save
        self.delete_batches = tx.delete_batches
        self.delete_dataset = tx.delete_dataset

    def find_batch_by_request(self, dataset_id: str, request_id: str) -> Batch | None:
        if dataset_id not in self._visible:
            return None
        return self._tx.find_batch_by_request(dataset_id, request_id)

    def edit(self, wanted: Mapping[BatchName, Wanted]) -> Sequence[BatchEdit]:
        return self._tx.edit({name: of for name, of in wanted.items() if name[0] in self._visible})

    def name_dataset(self, dataset_id: str, display_name: str) -> None:
        if dataset_id not in self._visible:
            raise DatasetNotFound(dataset_id)
        self._tx.name_dataset(dataset_id, display_name)

    def new_batch(self, batch: Batch, creation: Creation) -> BatchEdit:
        if batch.dataset_id not in self._visible:
            raise DatasetNotFound(batch.dataset_id)
        return self._tx.new_batch(batch, creation)
