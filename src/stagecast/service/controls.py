"""What operators write: documents held, released, ended or repeated; batches and datasets deleted.

A call on a whole batch is one transaction, so that a watch shows all of it or nothing.
What is deleted vanishes with its call; the many rows that it leaves are swept afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stagecast.model import (
    ALL,
    Batch,
    Change,
    Document,
    DocumentState,
    Visibility,
    pause,
    resume,
    retry,
    stop,
)
from stagecast.periodic import PeriodicTask
from stagecast.store import Store, WriteTransaction, get_batch, get_dataset, get_document

# Rows that go in one transaction, which other writers wait for, and the pause in which they write.
_STEP = 2_000
_PAUSE_S = 0.01

_log = logging.getLogger(__name__)

Rule = Callable[[Document, int], Change]
"""What becomes of a document at a time."""

# What each call on a whole batch looks at; a document that is named is looked at whatever it is.
_HOLDABLE = (DocumentState.PENDING, DocumentState.RUNNING)
_HELD = (DocumentState.PAUSED,)
_OPEN = (*_HOLDABLE, *_HELD)
_REPEATABLE = (DocumentState.FAILED, DocumentState.STOPPED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Controlled:
    """A batch after a call, and how many of its documents that changed."""

    batch: Batch
    changed: int


class Controls:
    """The operators' side. Every method returns after the commit is on disk.

    `document_id` is empty for the whole batch.
    All raise `BatchNotFound` or `DocumentNotFound` for what is not there, or not `visible`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._deleted = asyncio.Event()

    async def pause(
        self, dataset_id: str, batch_id: str, document_id: str, *, visible: Visibility
    ) -> Controlled:
        """Hold documents that are PENDING or RUNNING."""
        name = (dataset_id, batch_id, document_id)
        return await self._apply(name, lambda one, now: pause(one, now=now), _HOLDABLE, visible)

    async def resume(
        self, dataset_id: str, batch_id: str, document_id: str, *, visible: Visibility
    ) -> Controlled:
        """Release documents that are PAUSED."""
        name = (dataset_id, batch_id, document_id)
        return await self._apply(name, lambda one, _: resume(one), _HELD, visible)

    async def stop(
        self, dataset_id: str, batch_id: str, document_id: str, *, visible: Visibility
    ) -> Controlled:
        """End documents that are open."""
        name = (dataset_id, batch_id, document_id)
        return await self._apply(name, lambda one, now: stop(one, now=now), _OPEN, visible)

    async def retry(
        self, dataset_id: str, batch_id: str, document_id: str, *, visible: Visibility
    ) -> Controlled:
        """Give documents that FAILED or were STOPPED another attempt; a named one in any end."""
        name = (dataset_id, batch_id, document_id)
        return await self._apply(name, lambda one, _: retry(one), _REPEATABLE, visible)

    async def delete_batch(self, dataset_id: str, batch_id: str, *, visible: Visibility) -> None:
        """Delete a batch with its documents and its log."""
        await self._store.write(
            lambda tx: tx.delete_batch(get_batch(tx, dataset_id, batch_id)), visible=visible
        )
        self.sweep_soon()

    async def delete_dataset(self, dataset_id: str, *, visible: Visibility) -> None:
        """Delete a dataset with all its batches.

        Raises:
            DatasetNotFound: it is not there.
        """
        await self._store.write(
            lambda tx: tx.delete_dataset(get_dataset(tx, dataset_id)), visible=visible
        )
        self.sweep_soon()

    def sweep_soon(self) -> None:
        """Let `sweep` look at once."""
        self._deleted.set()

    async def sweep(self) -> None:
        """Sweep what was deleted, now and whenever there is more of it, until cancelled.

        The first look finds what an earlier server left behind.
        """
        task = PeriodicTask(_log, "sweep what was deleted")
        while True:
            self._deleted.clear()
            again_s = await task.attempt(self._sweep)
            if again_s is None:
                await self._deleted.wait()
            else:
                await asyncio.sleep(again_s)

    async def _sweep(self) -> None:
        while await self._store.write(lambda tx: tx.sweep(_STEP), visible=ALL):  # noqa: ASYNC110 - lets others write
            await asyncio.sleep(_PAUSE_S)

    async def _apply(
        self,
        name: tuple[str, str, str],
        rule: Rule,
        states: Iterable[DocumentState],
        visible: Visibility,
    ) -> Controlled:
        return await self._store.write(
            lambda tx: _apply(tx, name, rule, frozenset(states)), visible=visible
        )


def _apply(
    tx: WriteTransaction, name: tuple[str, str, str], rule: Rule, states: frozenset[DocumentState]
) -> Controlled:
    dataset_id, batch_id, document_id = name
    edit = tx.edit(get_batch(tx, dataset_id, batch_id))
    if document_id:
        documents: Iterable[Document] = [get_document(tx, edit.batch, document_id)]
    else:
        documents = tx.iterate_documents(edit.batch, states=states)
    for document in documents:
        edit.apply(document, rule(document, edit.now))
    tx.save(edit)
    return Controlled(batch=edit.batch, changed=len(edit.changed))
