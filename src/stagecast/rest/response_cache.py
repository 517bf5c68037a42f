"""A cache of responses that are valid until their data may have changed.

Polling clients repeat the same request. An entry subscribes to the notifier before its data is
read, and is invalid once notified. So it is never older than the last commit of this server;
commits of other processes are noticed within 50 ms.
A large response is not kept in the cache, but shared while it is being sent to another client.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from stagecast.model import Visibility
from stagecast.notifier import Notifier, Subscription, Topic
from stagecast.rest.content import Content

_BYTES = 16 << 20  # of all responses with keys and overhead
_LARGE = 1 << 20  # bytes of a response that costs more to send than to make
_PER_ENTRY = 2_000  # bytes of overhead, with the subscription
_PER_TOPIC = 500  # bytes of overhead of a topic in the notifier
_PER_DATASET = 200  # bytes of a dataset id in a set

Key: TypeAlias = tuple[Visibility, bytes | str]
"""The datasets visible to the caller, and the request."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """A response; `strong` is `None` for a large one, which lives only while it is being sent."""

    content: weakref.ref[Content]
    strong: Content | None
    subscription: Subscription
    subscribed: contextlib.ExitStack
    size: int


class ResponseCache:
    """The most recently used responses of one path, by request."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._bytes = 0

    def find(self, key: Key) -> Content | None:
        """Return a response if it is cached and valid."""
        entry = self._entries.get(key)
        if entry is None or entry.subscription.notified:
            return None
        self._entries.move_to_end(key)
        return entry.content()

    async def make(
        self,
        key: Key,
        topics: Sequence[Topic],
        make: Callable[[], Awaitable[Content]],
    ) -> Content:
        """Make a response, and cache it until a notification about one of the topics."""
        with contextlib.ExitStack() as subscribed:
            subscription = subscribed.enter_context(self._notifier.subscribe(*topics))
            content = await make()
            if not subscription.notified:
                small = content.size <= _LARGE
                size = _size_of(key) + _PER_ENTRY + len(topics) * _PER_TOPIC
                entry = _Entry(
                    content=weakref.ref(content, lambda _: self._forget(key, subscription)),
                    strong=content if small else None,
                    subscription=subscription,
                    subscribed=subscribed.pop_all(),
                    size=size + content.size if small else size,
                )
                self._add(key, entry)
        return content

    def _add(self, key: Key, entry: _Entry) -> None:
        if key in self._entries:
            self._drop(self._entries.pop(key))
        self._entries[key] = entry
        self._bytes += entry.size
        while self._bytes > _BYTES:
            self._drop(self._entries.popitem(last=False)[1])

    def _forget(self, key: Key, subscription: Subscription) -> None:
        """Drop the entry of a response that was freed, unless a newer one has replaced it."""
        if key in self._entries and self._entries[key].subscription is subscription:
            self._drop(self._entries.pop(key))

    def _drop(self, entry: _Entry) -> None:
        self._bytes -= entry.size
        entry.subscribed.close()


def _size_of(key: Key) -> int:
    visible, params = key
    return len(params) + _PER_DATASET * len(visible.dataset_ids or ())
