"""Waiting for the end of a batch: a long poll."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from stagecast.config import Config
from stagecast.errors import StoreBusy
from stagecast.model import ALL, Batch, Caller, batch_state
from stagecast.notifier import Notifier
from stagecast.singleflight import SingleFlight
from stagecast.store import Store, get_batch, store_timeout
from stagecast.watches.log import get_same_batch
from stagecast.watches.watch import check_open

_POLL_EVERY_S = 10.0
_MARGIN_S = 0.25  # before the deadline of a call, for the response to arrive
_PAUSE_S = 0.1  # between two reads of one call


class Waits:
    """Serves calls that wait for the end of a batch."""

    def __init__(self, store: Store, notifier: Notifier, *, config: Config) -> None:
        self._store = store
        self._notifier = notifier
        self._config = config
        self._single_flight: SingleFlight[Batch] = SingleFlight()

    async def wait(
        self,
        dataset_id: str,
        batch_id: str,
        timeout_s: float | None,
        *,
        remaining_s: float | None = None,
        caller: Caller,
    ) -> tuple[Batch, bool]:
        """Return the batch once it is terminal, and True; or as it is at the timeout, and False.

        The timeout is the shortest of `timeout_s` (or its configured default), the `remaining_s` of
        the call less a margin, and the duration of a watch. The permission of `caller` is checked
        every few seconds and before it returns.

        Raises:
            BatchNotFound: there is no such batch.
            BatchDeleted: the batch was deleted meanwhile.
            Draining: wait again.
            StoreBusy: the store cannot be read, at the start or at the timeout.
            StoreTimeout: the store does not answer.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + _limit_s(self._config, timeout_s, remaining_s)
        name = (dataset_id, batch_id)
        with self._notifier.subscribe(name) as subscription:
            async with store_timeout(self._config.request_s):
                batch = await self._store.read(
                    lambda tx: get_batch(tx, *name), visible=caller.visible
                )
            get = partial(get_same_batch, name=name, key=batch.key)
            # One read for all calls that wait for the same batch.
            read = partial(
                self._single_flight.do,
                (*name, batch.key),
                partial(self._store.read, get, visible=ALL),
            )
            next_s = loop.time()
            while not (done := batch_state(batch).terminal) and loop.time() < end_s:
                check_open(self._notifier)
                if await subscription.wait(min(end_s - loop.time(), _POLL_EVERY_S)):
                    # A single change is read at once, frequent changes are read together.
                    await asyncio.sleep(min(next_s, end_s) - loop.time())
                subscription.clear()
                next_s = loop.time() + _PAUSE_S
                caller.check()
                batch = await self._retry(read, end_s)
            return batch, done

    async def _retry(self, read: Callable[[], Awaitable[Batch]], end_s: float) -> Batch:
        """Read until the store answers, or the timeout."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with store_timeout(self._config.request_s):
                    return await read()
            except StoreBusy as fault:
                left_s = end_s - loop.time()
                if left_s <= 0:
                    raise
                await asyncio.sleep(min(fault.retry_after_s, left_s))
            check_open(self._notifier)


def _limit_s(config: Config, timeout_s: float | None, remaining_s: float | None) -> float:
    """Return how long a call may wait."""
    limit_s = min(config.wait_s if timeout_s is None else timeout_s, config.watch_life_s)
    if remaining_s is None:
        return limit_s
    return min(limit_s, remaining_s - min(_MARGIN_S, remaining_s / 4))
