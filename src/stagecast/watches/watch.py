"""A watch: one loop that sends what follows its cursor, and waits for whatever comes next.

A watch waits in one place only. A new page, the end of its own read, a deadline and a drain all
wake it; it then looks for itself what there is to do.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import random
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from stagecast.config import Config
from stagecast.errors import Draining, StoreBusy, WatchExpired
from stagecast.model import Caller
from stagecast.notifier import Notifier, Subscription
from stagecast.watches.deadlines import Deadlines
from stagecast.watches.rounds import Rounds
from stagecast.watches.tail import C, K, P, Tail, Tails

T = TypeVar("T")


class Receiver(Protocol):
    """The client of a watch."""

    @property
    def caller(self) -> Caller:
        """Checked for permission before every message, and at every check of deadlines."""
        ...

    def begin(self) -> Awaitable[None]:
        """Tell that the request is accepted, before the first message.

        Not called if a heartbeat had to be sent first.
        """
        ...

    def send(self, message: bytes) -> Awaitable[None]:
        """Send an encoded message; wait as long as the client does not read."""
        ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What all watches of a server share."""

    notifier: Notifier
    deadlines: Deadlines
    rounds: Rounds
    config: Config


class Watch(abc.ABC, Generic[C, P]):
    """One watch: a cursor that follows a tail, and the stream to its client.

    Attributes:
        cursor: the position up to which messages were sent.
        ended: whether there is nothing more to send.
    """

    cursor: C
    ended = False

    def __init__(self, shared: Shared, receiver: Receiver, heartbeat_s: float) -> None:
        self._shared = shared
        self._receiver = receiver
        self._tail: Tail[C, P]
        self._subscription = Subscription()
        self._now = asyncio.get_running_loop().time
        self._heartbeat_s = heartbeat_s
        self._sent_s = self._now()
        self._end_s = self._sent_s + shared.config.watch_life_s * random.uniform(0.9, 1.1)  # noqa: S311 - spreads reconnects
        self._silent = True
        self._heartbeat_due = self._expired = False

    # What is particular to a kind of watch.

    @abc.abstractmethod
    def heartbeat(self) -> bytes:
        """Return a heartbeat for the current position."""

    @abc.abstractmethod
    def is_at(self, position: C) -> bool:
        """Return whether the cursor is at a position of the tail, in the same history."""

    @abc.abstractmethod
    def advance(self, page: P) -> bytes | None:
        """Move the cursor to the end of a page; return its message, if it has one to send."""

    @abc.abstractmethod
    async def read(self) -> P:
        """Read the page after the cursor from the store."""

    def take(self) -> bytes | None:
        """Return the next message that needs no read, and move the cursor behind it."""
        page = self.find()
        return None if page is None else self.advance(page)

    # The stream.

    @contextlib.contextmanager
    def opened(self, tails: Tails[K, C, P], key: K) -> Iterator[None]:
        """Follow a tail, be woken and have deadlines during the block."""
        # One block, not one of each: they would be a twentieth of the memory of an idle watch.
        shared, own = self._shared, self._subscription
        shared.notifier.add(own)
        self._tail = tails.join(key, own)
        shared.deadlines.add(self, min(self._heartbeat_s, shared.config.watch_life_s))
        try:
            yield
        finally:
            shared.deadlines.remove(self)
            shared.rounds.leave(own)
            tails.leave(key, own)
            shared.notifier.remove(own)

    async def begin(self) -> None:
        """Tell the client that its request is accepted, unless it knows already."""
        if self._silent:
            self._silent = False
            await self._receiver.begin()

    async def send(self, message: bytes) -> None:
        """Send a message.

        Raises:
            Draining, WatchExpired: watch again.
            CredentialsError, DeniedError: the caller has no permission any more.
        """
        self._check_alive()
        await self._receiver.send(message)
        self._sent_s = self._now()
        self._silent = self._heartbeat_due = False

    async def wait(self) -> None:
        """Send a heartbeat that is due; otherwise wait until something may have happened."""
        if self._heartbeat_due:
            await self.send(self.heartbeat())
            return
        self._shared.rounds.done(self._subscription)
        self._check_alive()
        if not self._subscription.notified:
            await self._subscription.notification()
        self._subscription.clear()

    async def result(self, work: Awaitable[T]) -> T:
        """Return the result of some work; heartbeats are sent meanwhile."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._subscription.notify())
        try:
            while not task.done():
                await self.wait()
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))

    def check(self, now_s: float, next_s: float) -> None:
        """Wake the watch if it must send a heartbeat, or end."""
        # A little early, so that the client gets it in time.
        if self._sent_s + max(0.9 * self._heartbeat_s, self._heartbeat_s - 0.5) <= next_s:
            self._heartbeat_due = True
        self._expired = self._end_s <= now_s
        if self._heartbeat_due or self._expired or self._is_refused():
            self._subscription.notify()

    def _is_refused(self) -> bool:
        try:
            self._receiver.caller.check()
        except Exception:  # raised again by the watch itself
            return True
        return False

    def _check_alive(self) -> None:
        check_open(self._shared.notifier)
        if self._expired:
            raise WatchExpired(
                "maximum watch duration reached; watch again with the last resume token",
                retry_after_s=random.uniform(0.0, 1.0),  # noqa: S311 - spreads reconnects
            )
        self._receiver.caller.check()

    # The tail.

    async def follow(self) -> None:
        """Send what follows the cursor, until the watch has ended.

        Whoever is not at the tail's end reads the store: the tail may lag behind, or have started
        again because the log was deleted, trimmed or replaced.
        """
        while not self.ended:
            # Few frames, and no variable that holds on to a message: a thousand watches run this.
            message = self.take()
            if message is not None:
                await self.send(message)
            elif self._is_at_end():
                await self.wait()
            else:
                await self._read_on()

    def find(self) -> P | None:
        """Return the page after the cursor, if the tail reaches back to it."""
        # Newest first: most watches are up to date.
        for page in self._tail.newest_first():
            if self.is_at(page.before):
                return None if self.is_at(page.after) else page
        return None

    def _is_at_end(self) -> bool:
        return self._tail.end is not None and self.is_at(self._tail.end)

    async def _read_on(self) -> None:
        """Send what the store has after the cursor; without news, wait for the tail."""
        end = self._tail.end
        message = await self._read_message()
        if message is not None:
            await self.send(message)
        # What the tail has read meanwhile has woken this watch already, during its own read.
        elif self._tail.end is end:
            await self.wait()

    async def _read_message(self) -> bytes | None:
        """Read the page after the cursor; return the message with its news."""
        page = await self.read_page()
        return None if self.is_at(page.after) else self.advance(page)

    async def read_page(self) -> P:
        """Read the page after the cursor, again after a fault."""
        while True:
            try:
                page = await self.result(self.read())
            except StoreBusy as fault:
                await self.result(asyncio.sleep(fault.retry_after_s))
                continue
            self.note_end(page)
            return page

    def note_end(self, page: P) -> None:
        """Let the tail start at the end of the log, if a page reaches it and it has not yet."""
        if page.caught_up:
            self._tail.begin_at(page.after)


def check_open(notifier: Notifier) -> None:
    """Check that the server is not draining.

    Raises:
        Draining: the server is shutting down.
    """
    if notifier.closed:
        raise Draining(
            "server is shutting down; retry later or at another server",
            retry_after_s=random.uniform(0.1, 1.0),  # noqa: S311 - spreads reconnects
        )
