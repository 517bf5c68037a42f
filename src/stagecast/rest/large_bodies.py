"""Large bodies: shared while they are being sent, within a memory budget.

The body of a large batch has tens of megabytes, and stays in memory until its slowest client has
received it. So the next one is made only when the budget allows, one at a time; a request that
waits too long fails.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable

from stagecast.errors import StoreBusy
from stagecast.rest.content import Content

_BYTES = 64 << 20  # being sent; exceeded by at most one body
_TIMEOUT_S = 5.0  # shorter than the timeouts of clients
_RETRY_AFTER_S = 5.0


class _Body:
    """A body that is waited for, being made, or being sent.

    Attributes:
        head: the oldest that it can have; see `response_cache`.
        users: the requests that wait for it, or send it.
        begun: whether it is being read, or was.
        size: in bytes, once it is made.
        task: makes it.
    """

    task: asyncio.Task[Content]

    def __init__(self, head: Hashable) -> None:
        self.head = head
        self.users = 0
        self.begun = False
        self.size = 0

    @property
    def failed(self) -> bool:
        """Whether it could not be made."""
        task = self.task
        return task.done() and (task.cancelled() or task.exception() is not None)


class LargeBodies:
    """The large bodies of one path."""

    def __init__(self) -> None:
        self._bodies: dict[Hashable, _Body] = {}
        self._bytes = 0
        self._making = False
        self._changed = asyncio.Event()

    def __contains__(self, key: Hashable) -> bool:
        """Return whether a request waits for a body, or sends it."""
        return key in self._bodies

    @contextlib.asynccontextmanager
    async def shared(
        self, key: Hashable, head: Hashable, make: Callable[[], Awaitable[Content]]
    ) -> AsyncIterator[Content]:
        """Yield a body, made when the budget allows, to be sent within the block.

        Requests share a body that is current, or has not been read yet.

        Args:
            key: the request.
            head: of the answer now.
            make: makes the body.

        Raises:
            StoreBusy: the budget did not allow it in time.
        """
        body = self._find(key, head)
        if body is None:
            body = self._bodies[key] = _Body(head)
            body.task = asyncio.create_task(self._make(body, make))
        body.users += 1
        try:
            yield await asyncio.shield(body.task)
        finally:
            body.users -= 1
            if not body.users:
                self._free(key, body)

    def _find(self, key: Hashable, head: Hashable) -> _Body | None:
        body = self._bodies.get(key)
        if body is None or body.failed:
            return None
        if not body.begun:
            body.head = head
        return body if body.head == head else None

    async def _make(self, body: _Body, make: Callable[[], Awaitable[Content]]) -> Content:
        await self._wait_for_budget()
        self._making = body.begun = True
        try:
            content = await make()
        finally:
            self._making = False
            self._changed.set()
        body.size = content.size
        self._bytes += body.size
        return content

    async def _wait_for_budget(self) -> None:
        try:
            while self._making or self._bytes > _BYTES:
                self._changed.clear()
                # Restarted with each change: the queue moves, so waiting makes sense.
                async with asyncio.timeout(_TIMEOUT_S):
                    await self._changed.wait()
        except TimeoutError:
            raise StoreBusy(
                "too many large responses are being sent",
                retry_after_s=_RETRY_AFTER_S,
            ) from None

    def _free(self, key: Hashable, body: _Body) -> None:
        body.task.cancel()  # without users, it must not pile up on a hanging disk
        self._bytes -= body.size
        self._changed.set()
        if self._bodies.get(key) is body:
            del self._bodies[key]
