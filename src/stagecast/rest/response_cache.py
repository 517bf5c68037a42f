"""A cache of answers that are compared with the store when they are used.

Polling clients repeat the same request. While nobody has committed, which `Store.version` tells,
an answer is served as it is. After a commit, of any process, its head is read on the event loop: a
few values that change whenever the answer does. If they have, a small answer is read there as
well, since what was just written is in memory; that costs less than another thread.
So an answer is never older than the last commit that was acknowledged before the request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from stagecast.errors import NotFoundError, StoreBusy
from stagecast.model import ALL
from stagecast.rest.content import Content
from stagecast.store import ReadTransaction, Store

_BYTES = 16 << 20  # of all answers with keys and overhead
_PER_ENTRY = 2_000  # bytes of overhead
_PER_ID = 200  # bytes of an id
_SMALL = 4_096  # bytes of an answer that is read again on the event loop: within 0.2 ms
LARGE = 1 << 20  # bytes of a body that costs more to send than to make: not kept


class Query(Protocol):
    """What an answer is made of."""

    @property
    def ids(self) -> int:
        """The number of ids that it holds in memory."""
        ...

    def head(self, tx: ReadTransaction) -> object:
        """Return what changes whenever the answer does."""
        ...

    def render_small(self, tx: ReadTransaction) -> Content | None:
        """Return the answer, or `None` if it is not a small one.

        Raises:
            NotFoundError: there is none any more.
        """
        ...


@dataclass(slots=True)
class _Entry:
    """An answer that was current at a version of the store."""

    query: Query
    version: int
    head: object
    content: Content
    size: int


class ResponseCache:
    """The most recently used answers of one path, by request."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._bytes = 0

    def find(self, key: Hashable, version: int) -> Content | None:
        """Return an answer that is current at a version of the store, if there is one."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.version != version and not self._renew(key, entry, version):
            return None
        self._entries.move_to_end(key)
        return entry.content

    def keep(
        self, key: Hashable, query: Query, version: int, head: object, content: Content
    ) -> None:
        """Keep an answer unless it is large.

        Args:
            key: the request.
            query: what the answer is made of.
            version: of the store, before the answer was read.
            head: of the answer, read in the same transaction.
            content: the answer.
        """
        self._drop(key)
        if content.size > LARGE:
            return
        size = _PER_ENTRY + _PER_ID * query.ids + content.size
        self._entries[key] = _Entry(query, version, head, content, size)
        self._bytes += size
        self._make_room()

    def _renew(self, key: Hashable, entry: _Entry, version: int) -> bool:
        """Compare an answer with the store; return whether it is current now."""

        def read(tx: ReadTransaction) -> tuple[object, Content | None]:
            head = entry.query.head(tx)
            if head == entry.head:
                return head, entry.content
            is_small = entry.content.size <= _SMALL
            return head, entry.query.render_small(tx) if is_small else None

        try:
            head, content = self._store.read_now(read, visible=ALL)
        except (NotFoundError, StoreBusy):  # the next read says so, too
            content = None
        if content is entry.content:
            entry.version = version
        elif content is None:
            self._drop(key)
        else:
            self._bytes += content.size - entry.content.size
            entry.size += content.size - entry.content.size
            entry.version, entry.head, entry.content = version, head, content
            self._entries.move_to_end(key)
            self._make_room()
        return content is not None

    def _make_room(self) -> None:
        """Drop the answers that were not used for the longest time."""
        while self._bytes > _BYTES:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size
