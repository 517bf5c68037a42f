"""Operator actions: pause, resume, stop and retry documents; delete batches and datasets.

A call on a whole batch is one transaction, so a watch shows all of it or nothing.
A deletion takes effect with its call; the rows left behind are swept afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from stagecast.model import (
    ALL,
    Batch,
    BatchEdit,
    Change,
    Document,
    DocumentState,
    Visibility,
    pause,
    resume,
    retry,
    stop,
    with_other_forms,
)
from stagecast.periodic import PeriodicTask
from stagecast.store import Store, Wanted, WriteTransaction, get_batch, get_dataset

# Rows deleted in one transaction, which blocks other writers, and the pause in which they write.
_STEP = 2_000
_PAUSE_S = 0.01

_log = logging.getLogger(__name__)

Rule = Callable[[Document, int], Change]
"""Returns the change of a document at a time."""

# The states that a call on a whole batch applies to; on a single document it applies to any state.
_PAUSABLE = (DocumentState.PENDING, DocumentState.RUNNING)
_PAUSED = (DocumentState.PAUSED,)
_OPEN = (*_PAUSABLE, *_PAUSED)
_RETRYABLE = (DocumentState.FAILED, DocumentState.STOPPED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Controlled:
    """A batch after a call, and the number of its documents that changed."""

    batch: Batch
    changed: int


class Controls:
    """The operators' side. Every method returns after the commit is on disk.

    An empty `document_id` means the whole batch. All raise `BatchNotFound` or `DocumentNotFound`
    for a missing or not `visible` one.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._deleted = asyncio.Event()

    async def pause(
        self, dataset_id: str, batch_id: str, document_id: str, *, visible: Visibility
    ) -> Controlled:
        """Pause documents that are PENDING or RUNNING."""
        name = (dataset_id, batch_id, document_id)
        return await self._apply(name, lambda one, now: pause(one, now=now), _PAUSABLE, visible)

    async def resume(
        self, dataset_id: str, batch_id: str, document_id: str, *, visible: Visibility
    ) -> Controlled:
        """Resume documents that are PAUSED."""
        name = (dataset_id, batch_id, document_id)
        return await self._apply(name, lambda one, _: resume(one), _PAUSED, visible)

    async def stop(
        self, dataset_id: str, batch_id: str, document_id: str, *, visible: Visibility
    ) -> Controlled:
        """Stop documents that are open."""
        name = (dataset_id, batch_id, document_id)
        return await self._apply(name, lambda one, now: stop(one, now=now), _OPEN, visible)

    async def retry(
        self, dataset_id: str, batch_id: str, document_id: str, *, visible: Visibility
    ) -> Controlled:
        """Retry documents that FAILED or were STOPPED; a single document in any terminal state."""
        name = (dataset_id, batch_id, document_id)
        return await self._apply(name, lambda one, _: retry(one), _RETRYABLE, visible)

    async def delete_batch(self, dataset_id: str, batch_id: str, *, visible: Visibility) -> None:
        """Delete a batch with its documents and its log."""
        await self._delete(
            lambda tx: tx.delete_batches([get_batch(tx, dataset_id, batch_id)]), visible
        )

    async def delete_dataset(self, dataset_id: str, *, visible: Visibility) -> None:
        """Delete a dataset with all its batches.

        Raises:
            DatasetNotFound: there is no such dataset.
        """
        await self._delete(lambda tx: tx.delete_dataset(get_dataset(tx, dataset_id)), visible)

    def sweep_soon(self) -> None:
        """Wake `sweep`."""
        self._deleted.set()

    async def sweep(self) -> None:
        """Remove rows of deleted batches, now and after each deletion, until cancelled.

        The first run removes what an earlier server left behind.
        """
        task = PeriodicTask(_log, "sweep deleted rows")
        while True:
            self._deleted.clear()
            retry_after_s = await task.attempt(self._sweep)
            if retry_after_s is None:
                await self._deleted.wait()
            else:
                await asyncio.sleep(retry_after_s)

    async def _sweep(self) -> None:
        while await self._store.write(lambda tx: tx.sweep(_STEP), visible=ALL):  # noqa: ASYNC110 - lets others write
            await asyncio.sleep(_PAUSE_S)

    async def _delete(self, call: Callable[[WriteTransaction], None], visible: Visibility) -> None:
        try:
            await self._store.write(call, visible=visible)
        finally:  # it may be committed although its caller was cancelled
            self.sweep_soon()

    async def _apply(
        self,
        name: tuple[str, str, str],
        rule: Rule,
        states: Collection[DocumentState],
        visible: Visibility,
    ) -> Controlled:
        dataset_id, batch_id, document_id = name
        if document_id:
            wanted = Wanted(document_ids=with_other_forms([document_id]))
        else:
            wanted = Wanted(states=states)
        return await self._store.change(
            (dataset_id, batch_id),
            wanted,
            partial(_control, document_id=document_id, rule=rule),
            visible=visible,
        )


def _control(edit: BatchEdit, document_id: str, rule: Rule) -> Controlled:
    documents = [edit.get_document(document_id)] if document_id else [*edit.documents.values()]
    for document in documents:
        edit.apply(document, rule(document, edit.now))
    return Controlled(batch=edit.batch, changed=len(edit.changed))
