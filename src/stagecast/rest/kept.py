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

from stagecast.feed import Bell, Feed, Topic
from stagecast.model import Visibility
from stagecast.rest.content import Content

_BYTES = 16 << 20  # of all answers with their keys, and with what it costs to keep them
_LARGE = 1 << 20  # of one: what costs more to send than to make
_PER_ANSWER = 2_000  # bytes of a bell and what is around it
_PER_TOPIC = 500  # bytes of an entry of the feed
_PER_DATASET = 200  # bytes of an id in a set

Key: TypeAlias = tuple[Visibility, bytes | str]
"""The datasets that exist for a caller, and what they asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    """An answer; a large one is `found` only as long as somebody else holds it."""

    found: weakref.ref[Content]
    held: Content | None
    bell: Bell
    listening: contextlib.ExitStack
    size: int


class KeptAnswers:
    """The answers of one path, those that were asked for last, by what was asked."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._bytes = 0

    def find(self, key: Key) -> Content | None:
        """Return an answer if it is as good as a new one."""
        kept = self._kept.get(key)
        if kept is None or kept.bell.rung:
            return None
        self._kept.move_to_end(key)
        return kept.found()

    async def make(
        self,
        key: Key,
        topics: Sequence[Topic],
        make: Callable[[], Awaitable[Content]],
    ) -> Content:
        """Make an answer, and keep it until one of the topics may have changed."""
        with contextlib.ExitStack() as listening:
            bell = listening.enter_context(self._feed.listen(*topics))
            content = await make()
            if not bell.rung:
                small = content.size <= _LARGE
                size = _size_of(key) + _PER_ANSWER + len(topics) * _PER_TOPIC
                answer = _Kept(
                    found=weakref.ref(content, lambda _: self._forget(key, bell)),
                    held=content if small else None,
                    bell=bell,
                    listening=listening.pop_all(),
                    size=size + content.size if small else size,
                )
                self._keep(key, answer)
        return content

    def _keep(self, key: Key, answer: _Kept) -> None:
        if key in self._kept:
            self._drop(self._kept.pop(key))
        self._kept[key] = answer
        self._bytes += answer.size
        while self._bytes > _BYTES:
            self._drop(self._kept.popitem(last=False)[1])

    def _forget(self, key: Key, bell: Bell) -> None:
        """Drop an answer that is nowhere any more, unless a newer one has its place."""
        if key in self._kept and self._kept[key].bell is bell:
            self._drop(self._kept.pop(key))

    def _drop(self, answer: _Kept) -> None:
        self._bytes -= answer.size
        answer.listening.close()


def _size_of(key: Key) -> int:
    visible, asked = key
    return len(asked) + _PER_DATASET * len(visible.dataset_ids or ())
