"""The watch of datasets: all of them first, then those that changed, merged.

All changes of datasets share one sequence. A watcher is one number in it, and reads the changes
with higher ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from functools import partial

from stagecast.config import Config
from stagecast.errors import WatchExpired
from stagecast.model import (
    Caller,
    Dataset,
    DatasetsMessage,
    DatasetsWatchRequest,
    Visibility,
)
from stagecast.notifier import Notifier
from stagecast.singleflight import SingleFlight
from stagecast.store import DatasetNews, ReadTransaction, Store
from stagecast.watches.pending_read import PendingRead
from stagecast.watches.throttle import Throttle
from stagecast.watches.timers import WatchTimers, running_task

_PART = 2_000  # datasets, or ids, in a message: some 400 KB
_BEFORE_ALL = -1  # change_seq: datasets of the previous release have 0
_THROTTLE_S = 0.1  # between two messages; faster changes are merged


class DatasetWatches:
    """Serves watches of datasets."""

    def __init__(
        self, store: Store, notifier: Notifier, *, config: Config, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._config = config
        self._clock = clock
        self._single_flight: SingleFlight[DatasetNews] = SingleFlight()

    async def watch(
        self,
        request: DatasetsWatchRequest,
        *,
        on_begun: Callable[[], Awaitable[None]],
        caller: Caller,
    ) -> AsyncGenerator[DatasetsMessage]:
        """Yield messages without an end.

        Args:
            request: the datasets and the heartbeat interval.
            on_begun: called before the first message; not called if a heartbeat had to be sent
                first.
            caller: checked for permission before every message, at least once per heartbeat
                interval.

        Raises:
            Draining, WatchExpired: watch again; the latter also when the store was overwritten by
                an older copy, which does not know what was removed.
        """
        topics = [()] if request.dataset_ids is None else [(one,) for one in request.dataset_ids]
        pending: PendingRead[DatasetNews] = PendingRead()
        with contextlib.closing(pending), self._notifier.subscribe(*topics) as subscription:
            timers = WatchTimers(request.heartbeat_s, self._config)
            silent = True
            async with running_task(self._read(request, caller.visible, _BEFORE_ALL)) as first:
                while not await timers.is_done(first, self._notifier):
                    caller.check()
                    yield DatasetsMessage(server_at=self._clock())
                    timers.sent()
                    silent = False
            news = first.result()
            if silent:
                await on_begun()
            messages = self._all(news.changed)
            throttle = Throttle(_THROTTLE_S)
            while True:
                for message in messages:
                    caller.check()
                    yield message
                    timers.sent()
                timers.check_alive(self._notifier)
                # A failed read is repeated with or without a notification.
                await throttle.wait(
                    subscription, 0.0 if pending.unavailable else timers.until_due_s
                )
                read = partial(self._read, request, caller.visible, news.change_seq)
                fetched = await pending.take(read, timers)
                if fetched and fetched.change_seq < news.change_seq:
                    raise WatchExpired(
                        "the store was overwritten by an older copy; watch again to receive all "
                        "datasets",
                        retry_after_s=0,
                    )
                messages = self._news(fetched, heartbeat_due=timers.heartbeat_due)
                news = fetched or news

    async def _read(
        self, request: DatasetsWatchRequest, visible: Visibility, change_seq: int
    ) -> DatasetNews:
        def find(tx: ReadTransaction) -> DatasetNews:
            return tx.find_dataset_news(request.dataset_ids, after_seq=change_seq)

        # One read for all watchers of the same datasets at the same change.
        query = (request.dataset_ids, visible, change_seq)
        return await self._single_flight.do(query, partial(self._store.read, find, visible=visible))

    def _all(self, datasets: Sequence[Dataset]) -> Iterator[DatasetsMessage]:
        """Yield the datasets at the start; the last message is marked complete."""
        for first in range(0, max(1, len(datasets)), _PART):
            yield DatasetsMessage(
                datasets=datasets[first : first + _PART],
                complete=first + _PART >= len(datasets),
                server_at=self._clock(),
            )

    def _news(
        self, fetched: DatasetNews | None, *, heartbeat_due: bool
    ) -> Iterator[DatasetsMessage]:
        """Yield the changes, or without any a heartbeat that is due."""
        changed = fetched.changed if fetched else ()
        removed = fetched.removed if fetched else ()
        if not changed and not removed and heartbeat_due:
            yield DatasetsMessage(server_at=self._clock())
        for first in range(0, max(len(changed), len(removed)), _PART):
            yield DatasetsMessage(
                datasets=changed[first : first + _PART],
                removed=removed[first : first + _PART],
                server_at=self._clock(),
            )
