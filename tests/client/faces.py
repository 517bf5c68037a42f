"""`Client` and `AsyncClient` behind one interface, so that a test holds for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar

import stagecast

T = TypeVar("T")

NAMES = ("Client", "AsyncClient")
_END = object()


class Face:
    """A client of one kind; a synchronous one is called on threads.

    Attributes:
        client: the client.
    """

    def __init__(self, name: str, address: str | None = None, **options: Any) -> None:
        self.client: Any = getattr(stagecast, name)(address, **options)

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method; return its result, or what it yields."""
        if isinstance(self.client, stagecast.Client):
            return await asyncio.to_thread(self._call, method, *args, **options)
        result = getattr(self.client, method)(*args, **options)
        if isinstance(result, AsyncIterator):
            return [item async for item in result]
        return await result

    async def close(self) -> None:
        """Close the client."""
        if isinstance(self.client, stagecast.Client):
            self.client.close()
        else:
            await self.client.close()

    def _call(self, method: str, *args: Any, **options: Any) -> Any:
        result = getattr(self.client, method)(*args, **options)
        return list(result) if isinstance(result, Iterator) else result


class Events:
    """A watch of either kind, to be read with `await`; `watch` is the watch itself."""

    def __init__(self, face: Face, *args: Any, method: str = "watch", **options: Any) -> None:
        self.watch: Any = getattr(face.client, method)(*args, **options)

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Any:
        """Return the next event."""
        if isinstance(self.watch, AsyncIterator):
            return await anext(self.watch)
        event = await asyncio.to_thread(next, self.watch, _END)
        if event is _END:
            raise StopAsyncIteration
        return event

    async def close(self) -> None:
        """End the watch."""
        if isinstance(self.watch, AsyncIterator):
            await self.watch.close()  # type: ignore[attr-defined]  # of `AsyncWatch`
        else:
            self.watch.close()
