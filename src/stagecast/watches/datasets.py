"""The watch of datasets: each as it is, then each that changed, merged.

All changes of datasets bear one running number. A watcher is one such number, and reads what has a
higher one.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from functools import partial

from stagecast.config import Config
from stagecast.errors import WatchExpired
from stagecast.feed import Feed
from stagecast.model import (
    Caller,
    Dataset,
    DatasetsMessage,
    DatasetsWatchRequest,
    Visibility,
)
from stagecast.store import DatasetNews, Reading, Store
from stagecast.turns import Turns
from stagecast.watches.look import Look
from stagecast.watches.patience import Patience, begun
from stagecast.watches.tick import Tick

_PART = 2_000  # datasets, or ids, in a message: some 400 KB
_BEFORE_ALL = -1  # serial: those that the release before has made have 0
_TICK_S = 0.1  # between two messages; what changes more often is merged


class DatasetWatches:
    """Serves the watchers of datasets."""

    def __init__(
        self, store: Store, feed: Feed, *, config: Config, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._feed = feed
        self._config = config
        self._clock = clock
        self._turns: Turns[DatasetNews] = Turns()

    async def watch(
        self,
        request: DatasetsWatchRequest,
        *,
        on_begun: Callable[[], Awaitable[None]],
        caller: Caller,
    ) -> AsyncGenerator[DatasetsMessage]:
        """Yield messages without an end.

        Args:
            request: what to watch.
            on_begun: called when the watch has begun, unless a heartbeat was sent before.
            caller: who watches; asked before every message, and at least once in a heartbeat
                interval, whether they still may.

        Raises:
            Draining, WatchExpired: watch again; the latter also when an older copy was written into
                the store, in which nothing says what is not there any more.
        """
        topics = [()] if request.dataset_ids is None else [(one,) for one in request.dataset_ids]
        look: Look[DatasetNews] = Look()
        with contextlib.closing(look), self._feed.listen(*topics) as bell:
            patience = Patience(request.heartbeat_s, self._config)
            silent = True
            async with begun(self._read(request, caller.visible, _BEFORE_ALL)) as first:
                while not await patience.is_done(first, self._feed):
                    caller.check()
                    yield DatasetsMessage(server_at=self._clock())
                    patience.sent()
                    silent = False
            news = first.result()
            if silent:
                await on_begun()
            messages = self._all(news.changed)
            tick = Tick(_TICK_S)
            while True:
                for message in messages:
                    caller.check()
                    yield message
                    patience.sent()
                patience.check_alive(self._feed)
                # What is not known yet is asked for again, whether or not the bell rings.
                await tick.wait(bell, 0.0 if look.blind else patience.until_due_s)
                read = partial(self._read, request, caller.visible, news.serial)
                found = await look.take(read, patience)
                if found and found.serial < news.serial:
                    raise WatchExpired(
                        "an older copy was written into the store; watch again, which begins with "
                        "all that are there",
                        retry_after_s=0,
                    )
                messages = self._news(found, heartbeat_due=patience.heartbeat_due)
                news = found or news

    async def _read(
        self, request: DatasetsWatchRequest, visible: Visibility, serial: int
    ) -> DatasetNews:
        def find(tx: Reading) -> DatasetNews:
            return tx.find_dataset_news(request.dataset_ids, after_serial=serial)

        # One read for all who watch the same and are in step.
        asked = (request.dataset_ids, visible, serial)
        return await self._turns.share(asked, partial(self._store.read, find, visible=visible))

    def _all(self, datasets: Sequence[Dataset]) -> Iterator[DatasetsMessage]:
        """Yield what is there at the start; the last message says that it is complete."""
        for first in range(0, max(1, len(datasets)), _PART):
            yield DatasetsMessage(
                datasets=datasets[first : first + _PART],
                complete=first + _PART >= len(datasets),
                server_at=self._clock(),
            )

    def _news(self, found: DatasetNews | None, *, heartbeat_due: bool) -> Iterator[DatasetsMessage]:
        """Yield what there is to tell: changes, or a sign of life when that is due."""
        changed = found.changed if found else ()
        removed = found.removed if found else ()
        if not changed and not removed and heartbeat_due:
            yield DatasetsMessage(server_at=self._clock())
        for first in range(0, max(len(changed), len(removed)), _PART):
            yield DatasetsMessage(
                datasets=changed[first : first + _PART],
                removed=removed[first : first + _PART],
                server_at=self._clock(),
            )
