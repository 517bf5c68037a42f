"""Answers that are kept until what they show has changed.

Clients that poll ask the same again and again. A kept answer listens to the feed from before it was
read: once its bell has rung it is worth nothing, whoever still waits for it. So it is never older
than the last commit of this server; another process's is heard of within 50 ms.
A large answer is not kept, but shared with whoever asks while somebody is still being sent it.
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

_BYTES = 16 << 20  # of all answers with their keys, and with what it costs to keep them
_LARGE = 1 << 20  # of one: what costs more to send than to make
_PER_ANSWER = 2_000  # bytes of a bell and what is around it
_PER_TOPIC = 500  # bytes of an entry of the feed
_PER_DATASET = 200  # bytes of an id in a set

Key: TypeAlias = tuple[Visibility, bytes | str]
"""The datasets that exist for a caller, and what they asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """An answer; a large one is `found` only as long as somebody else holds it."""

    content: weakref.ref[Content]
    held: Content | None
    subscription: Subscription
    subscribed: contextlib.ExitStack
    size: int


class ResponseCache:
    """The answers of one path, those that were asked for last, by what was asked."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._bytes = 0

    def find(self, key: Key) -> Content | None:
        """Return an answer if it is as good as a new one."""
        retained = self._entries.get(key)
        if retained is None or retained.subscription.notified:
            return None
        self._entries.move_to_end(key)
        return retained.content()

    async def make(
        self,
        key: Key,
        topics: Sequence[Topic],
        make: Callable[[], Awaitable[Content]],
    ) -> Content:
        """Make an answer, and keep it until one of the topics may have changed."""
        with contextlib.ExitStack() as subscribed:
            subscription = subscribed.enter_context(self._notifier.subscribe(*topics))
            content = await make()
            if not subscription.notified:
                small = content.size <= _LARGE
                size = _size_of(key) + _PER_ANSWER + len(topics) * _PER_TOPIC
                answer = _Entry(
                    content=weakref.ref(content, lambda _: self._forget(key, subscription)),
                    held=content if small else None,
                    subscription=subscription,
                    subscribed=subscribed.pop_all(),
                    size=size + content.size if small else size,
                )
                self._add(key, answer)
        return content

    def _add(self, key: Key, answer: _Entry) -> None:
        if key in self._entries:
            self._drop(self._entries.pop(key))
        self._entries[key] = answer
        self._bytes += answer.size
        while self._bytes > _BYTES:
            self._drop(self._entries.popitem(last=False)[1])

    def _forget(self, key: Key, subscription: Subscription) -> None:
        """Drop an answer that is nowhere any more, unless a newer one has its place."""
        if key in self._entries and self._entries[key].subscription is subscription:
            self._drop(self._entries.pop(key))

    def _drop(self, answer: _Entry) -> None:
        self._bytes -= answer.size
        answer.subscribed.close()


def _size_of(key: Key) -> int:
    visible, params = key
    return len(params) + _PER_DATASET * len(visible.dataset_ids or ())
