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
from stagecast.watches.log import find_named
from stagecast.watches.throttle import Throttle
from stagecast.watches.timers import check_open

_ASK_EVERY_S = 10.0
_MARGIN_S = 0.25  # before the deadline of a call, for the answer to arrive
_THROTTLE_S = 0.1  # between two looks of one who waits


class Waits:
    """Serves those who wait."""

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
        """Return the batch once it is terminal, and True; or as it is when the time is over.

        That is after `timeout_s`, or what is configured without one; just before the `remaining_s`
        of the call are over; and when it has lived as long as a watch. Before it returns, and every
        few seconds, `caller` is asked whether they still may.

        Raises:
            BatchNotFound: there is no such batch.
            BatchDeleted: the batch went meanwhile.
            Draining: wait again.
            StoreBusy: the store cannot be read, at the beginning or when the time is over.
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
            find = partial(find_named, name=name, key=batch.key)
            # One read for all who wait for the same batch.
            pending = partial(
                self._single_flight.do,
                (*name, batch.key),
                partial(self._store.read, find, visible=ALL),
            )
            throttle = Throttle(_THROTTLE_S)
            while not (done := batch_state(batch).terminal) and loop.time() < end_s:
                check_open(self._notifier)
                await throttle.wait(subscription, min(end_s - loop.time(), _ASK_EVERY_S))
                caller.check()
                batch = await self._outlast_faults(pending, end_s)
            return batch, done

    async def _outlast_faults(self, pending: Callable[[], Awaitable[Batch]], end_s: float) -> Batch:
        """Look until the store answers, or the time is over."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with store_timeout(self._config.request_s):
                    return await pending()
            except StoreBusy as fault:
                left_s = end_s - loop.time()
                if left_s <= 0:
                    raise
                await asyncio.sleep(min(fault.retry_after_s, left_s))
            check_open(self._notifier)


def _limit_s(config: Config, timeout_s: float | None, remaining_s: float | None) -> float:
    """Return how long a call may wait for its answer."""
    limit_s = min(config.wait_s if timeout_s is None else timeout_s, config.watch_life_s)
    if remaining_s is None:
        return limit_s
    return min(limit_s, remaining_s - min(_MARGIN_S, remaining_s / 4))
