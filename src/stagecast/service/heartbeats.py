"""What workers say to be seen alive: heartbeats, each answered with an order.

The order comes from a read. What the heartbeat keeps alive is merged in memory with others, of all
batches, and written a moment later in one transaction, which decides anew; the keeper waits for
longer than that moment before it takes silence for silence.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from stagecast.errors import UnavailableError
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
from stagecast.store import BatchName, ReadTransaction, Store, WriteTransaction, get_batch

_GATHER_S = 0.2
_STEP = 1_000  # documents in one transaction, which other writers wait for
_MAX_ITEMS = 50_000  # documents in memory; who brings more waits until there is room

_log = logging.getLogger(__name__)

_Key = tuple[str, str, str]
_Alive = Mapping[_Key, int]
"""The attempts that were heard of, by dataset, batch and document."""


class Heartbeats:
    """Answers heartbeats and writes what they keep alive.

    Args:
        store: where the documents are.
        clock: microseconds since the epoch.
    """

    def __init__(self, store: Store, *, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._alive: dict[_Key, int] = {}
        self._some = asyncio.Event()

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
            batch_id: of all the documents.
            heartbeats: one for each document.
            visible: the datasets that exist for the caller.

        Raises:
            BatchNotFound: there is no such batch.
            StoreBusy: too much is waiting to be written, and cannot be.
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
            self._some.set()
        return orders

    async def run(self) -> None:
        """Write what was merged, a moment after the first of it, until cancelled."""
        task = PeriodicTask(_log, "write heartbeats")
        while True:
            await self._some.wait()
            await asyncio.sleep(_GATHER_S)
            await asyncio.sleep(await task.attempt(self.flush) or 0)

    async def flush(self) -> None:
        """Write what was merged so far.

        Raises:
            StoreBusy: the store cannot be written now; nothing was lost.
        """
        self._some.clear()
        while self._alive:
            some = {key: self._alive.pop(key) for key in [*itertools.islice(self._alive, _STEP)]}
            try:
                await self._store.write(partial(_keep_alive, alive=some), visible=ALL)
            except (UnavailableError, asyncio.CancelledError):
                self._alive = some | self._alive
                self._some.set()
                raise


def _poll(
    tx: ReadTransaction, batch: Batch, heartbeats: Sequence[HeartbeatItem], now: int
) -> tuple[list[WorkerOrder], dict[str, int]]:
    """Return the orders, and the attempts that it does good to keep alive, by document."""
    documents = tx.find_documents(batch, {heartbeat.document_id for heartbeat in heartbeats})
    orders = [
        order_for(documents.get(heartbeat.document_id), heartbeat.attempt)
        for heartbeat in heartbeats
    ]
    going_on = {
        heartbeat.document_id
        for heartbeat, order in zip(heartbeats, orders, strict=True)
        if order is WorkerOrder.GO_ON
    }
    silent = tx.find_silent(batch, going_on, before=now - coalesce_us(batch.stall_after_us))
    return orders, {document_id: documents[document_id].attempt for document_id in silent}


def _keep_alive(tx: WriteTransaction, alive: _Alive) -> None:
    """Write signs of life, wherever their attempt is still under way."""
    by_batch: dict[BatchName, dict[str, int]] = {}
    for (dataset_id, batch_id, document_id), attempt in alive.items():
        by_batch.setdefault((dataset_id, batch_id), {})[document_id] = attempt
    for name, attempts in by_batch.items():
        batch = tx.find_batch(*name)
        if batch is not None:
            _keep_alive_in(tx, batch, attempts)


def _keep_alive_in(tx: WriteTransaction, batch: Batch, attempts: Mapping[str, int]) -> None:
    edit = tx.edit(batch)
    for document in tx.find_documents(batch, attempts.keys()).values():
        if attempts[document.document_id] == document.attempt:
            edit.hear(edit.apply(document, recover(document)))
    tx.save(edit)
