"""The watch of datasets: all of them first, then those that changed, merged.

All changes of datasets share one sequence. A watcher is one number in it; one tail reads and
encodes the changes for all watchers of the same datasets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from stagecast.errors import WatchExpired
from stagecast.model import DatasetsMessage, DatasetsWatchRequest, Visibility
from stagecast.notifier import Topic
from stagecast.singleflight import SingleFlight
from stagecast.store import Committed, DatasetNews, ReadTransaction, Store
from stagecast.watches.tail import LogPage, Tails
from stagecast.watches.watch import Receiver, Shared, Watch

Encode = Callable[[DatasetsMessage], bytes]
"""Serializes a message."""

_PART = 1_000  # datasets, or ids, in a message: some 200 KB, or 1.2 MB with the longest names
_BEFORE_ALL = -1  # change_seq: datasets of the previous release have 0
_PAUSE_S = 0.1  # between two reads; faster changes are merged

_Query = tuple[frozenset[str] | None, Visibility]
"""The datasets that are watched, `None` for all, and those that the caller can see."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Page(LogPage[int]):
    """The messages with what changed between two change_seqs."""

    messages: Sequence[bytes]

    @property
    def size(self) -> int:
        """Size in bytes."""
        return sum(map(len, self.messages))


class DatasetWatches:
    """Serves watches of datasets.

    Args:
        store: holds the datasets.
        shared: what all watches share.
        encode: serializes messages.
        clock: microseconds since the epoch.
    """

    def __init__(
        self, store: Store, shared: Shared, *, encode: Encode, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self.shared = shared
        self._encode = encode
        self._clock = clock
        self._single_flight: SingleFlight[_Page] = SingleFlight()
        self._tails: Tails[_Query, int, _Page] = Tails(
            shared.notifier, shared.rounds, topics=_topics, read=self._read, pause_s=_PAUSE_S
        )

    async def watch(self, request: DatasetsWatchRequest, receiver: Receiver) -> None:
        """Serve a watch, without an end.

        Raises:
            Draining, WatchExpired: watch again; the latter also when the store was overwritten by
                an older copy, which does not know what was removed.
        """
        watch = _DatasetsWatch(self, request, receiver)
        with watch.opened(self._tails, watch.query):
            await watch.run()

    def make_heartbeat(self) -> bytes:
        """Return a heartbeat, which has no token."""
        return self._encode(DatasetsMessage(server_at=self._clock()))

    async def share_read(self, query: _Query, after: int) -> _Page:
        """Read once for all watches of the same datasets that start together, or lag behind."""
        return await self._single_flight.do((query, after), partial(self._read, query, after))

    async def _read(self, query: _Query, after: int, _committed: Sequence[Committed] = ()) -> _Page:
        """Read the changes after a change_seq.

        Raises:
            WatchExpired: an older copy was restored.
        """
        dataset_ids, visible = query

        def find(tx: ReadTransaction) -> _Page:
            news = tx.find_dataset_news(dataset_ids, after_seq=after)
            messages = self._all(news) if after == _BEFORE_ALL else self._changes(news)
            encoded = [self._encode(message) for message in messages]
            return _Page(before=after, after=news.change_seq, caught_up=True, messages=encoded)

        page = await self._store.read(find, visible=visible)
        if page.after < after:
            raise WatchExpired(
                "the store was overwritten by an older copy; watch again to receive all datasets",
                retry_after_s=0,
            )
        return page

    def _all(self, news: DatasetNews) -> Iterator[DatasetsMessage]:
        """Yield the datasets at the start; the last message is marked complete."""
        datasets = news.changed
        for first in range(0, max(1, len(datasets)), _PART):
            yield DatasetsMessage(
                datasets=datasets[first : first + _PART],
                complete=first + _PART >= len(datasets),
                server_at=self._clock(),
            )

    def _changes(self, news: DatasetNews) -> Iterator[DatasetsMessage]:
        for first in range(0, max(len(news.changed), len(news.removed)), _PART):
            yield DatasetsMessage(
                datasets=news.changed[first : first + _PART],
                removed=news.removed[first : first + _PART],
                server_at=self._clock(),
            )


class _DatasetsWatch(Watch[int, _Page]):
    """One watch of datasets."""

    def __init__(
        self, watches: DatasetWatches, request: DatasetsWatchRequest, receiver: Receiver
    ) -> None:
        super().__init__(watches.shared, receiver, request.heartbeat_s)
        self.cursor = _BEFORE_ALL
        self.query = (request.dataset_ids, receiver.caller.visible)
        self._watches = watches
        self._unsent: deque[bytes] = deque()

    async def run(self) -> None:
        """Send all datasets, then those that change."""
        await self._read_all()
        await self.follow()

    def heartbeat(self) -> bytes:
        """Return a heartbeat, which has no token."""
        return self._watches.make_heartbeat()

    def is_at(self, position: int) -> bool:
        """Return whether the cursor is at a position."""
        return position == self.cursor

    async def read(self) -> _Page:
        """Read the changes after the cursor from the store."""
        return await self._watches.share_read(self.query, self.cursor)

    def take(self) -> bytes | None:
        """Return the next message that needs no read."""
        return self._unsent.popleft() if self._unsent else super().take()

    def advance(self, page: _Page) -> bytes | None:
        """Move the cursor to the end of a page; return its first message, the others follow."""
        self.cursor = page.after
        self._unsent = deque(page.messages)
        return self._unsent.popleft() if self._unsent else None

    async def _read_all(self) -> None:
        page = await self.result(self.read())
        await self.begin()
        self.note_end(page)
        self.cursor, self._unsent = page.after, deque(page.messages)


def _topics(query: _Query) -> Sequence[Topic]:
    dataset_ids, _ = query
    return [()] if dataset_ids is None else [(one,) for one in dataset_ids]
