"""Heartbeats of workers, each answered with an order.

The order comes from a read. Heartbeats of all batches are merged in memory and written a moment
later in one transaction, which checks again whether they apply; the stall detector waits longer
than that moment before it counts a document as silent.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from stagecast.errors import Unavailable
from stagecast.model import (
    ALL,
    Batch,
    HeartbeatItem,
    Visibility,
    WorkerOrder,
    coalesce_us,
    order_for,
    recover,
)
from stagecast.periodic import PeriodicTask
from stagecast.store import BatchName, ReadTransaction, Store, Wanted, WriteTransaction, get_batch

_GATHER_S = 0.2
_STEP = 1_000  # documents in one transaction, which blocks other writers
_MAX_ITEMS = 50_000  # documents in memory; further heartbeats wait for room

_log = logging.getLogger(__name__)

_Key = tuple[str, str, str]
_Alive = Mapping[_Key, int]
"""The attempts with a heartbeat, by dataset, batch and document."""


class Heartbeats:
    """Answers heartbeats and writes them.

    Args:
        store: holds the documents.
        clock: microseconds since the epoch.
    """

    def __init__(self, store: Store, *, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._alive: dict[_Key, int] = {}
        self._pending = asyncio.Event()

    async def record(
        self,
        dataset_id: str,
        batch_id: str,
        heartbeats: Sequence[HeartbeatItem],
        *,
        visible: Visibility,
    ) -> Sequence[WorkerOrder]:
        """Keep documents from stalling, and return an order for each, in their order.

        Args:
            dataset_id: of the batch.
            batch_id: of all documents.
            heartbeats: one for each document.
            visible: the datasets that exist for the caller.

        Raises:
            BatchNotFound: there is no such batch.
            StoreBusy: too many heartbeats are waiting, and the store cannot be written.
        """
        now = self._clock()
        orders, alive = await self._store.read(
            lambda tx: _poll(tx, get_batch(tx, dataset_id, batch_id), heartbeats, now),
            visible=visible,
        )
        while alive and len(self._alive) >= _MAX_ITEMS:
            await self.flush()
        for document_id, attempt in alive.items():
            self._alive[dataset_id, batch_id, document_id] = attempt
            self._pending.set()
        return orders

    async def run(self) -> None:
        """Write merged heartbeats, a moment after the first of them, until cancelled."""
        task = PeriodicTask(_log, "write heartbeats")
        while True:
            await self._pending.wait()
            await asyncio.sleep(_GATHER_S)
            await asyncio.sleep(await task.attempt(self.flush) or 0)

    async def flush(self) -> None:
        """Write the heartbeats merged so far.

        Raises:
            StoreBusy: the store cannot be written now; nothing was lost.
        """
        self._pending.clear()
        while self._alive:
            step = {key: self._alive.pop(key) for key in [*itertools.islice(self._alive, _STEP)]}
            try:
                await self._store.write(partial(_keep_alive, alive=step), visible=ALL)
            except (Unavailable, asyncio.CancelledError):
                self._alive = step | self._alive
                self._pending.set()
                raise


def _poll(
    tx: ReadTransaction, batch: Batch, heartbeats: Sequence[HeartbeatItem], now: int
) -> tuple[list[WorkerOrder], dict[str, int]]:
    """Return the orders, and the attempts that need a new sign of life, by document."""
    documents = tx.find_documents(batch, {heartbeat.document_id for heartbeat in heartbeats})
    orders = [
        order_for(documents.get(heartbeat.document_id), heartbeat.attempt)
        for heartbeat in heartbeats
    ]
    active = {
        heartbeat.document_id
        for heartbeat, order in zip(heartbeats, orders, strict=True)
        if order is WorkerOrder.GO_ON
    }
    silent = tx.find_silent(batch, active, before=now - coalesce_us(batch.stall_after_us))
    return orders, {document_id: documents[document_id].attempt for document_id in silent}


def _keep_alive(tx: WriteTransaction, alive: _Alive) -> None:
    """Write heartbeats whose attempt is still the current one."""
    named: dict[BatchName, list[str]] = {}
    for dataset_id, batch_id, document_id in alive:
        named.setdefault((dataset_id, batch_id), []).append(document_id)
    edits = tx.edit({name: Wanted(document_ids=ids) for name, ids in named.items()})
    for edit in edits:
        for document in [*edit.documents.values()]:
            key = (document.dataset_id, document.batch_id, document.document_id)
            if alive[key] == document.attempt:
                edit.record_heartbeat(edit.apply(document, recover(document)))
    tx.save(*edits)
