"""A look at the store that keeps nobody from being heard from.

A fault of the store, or a read that takes long, is no reason to end a watch: it has nothing new to
tell, tells so when its heartbeat is due, and looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from stagecast.errors import StoreBusy
from stagecast.watches.patience import Patience

T = TypeVar("T")


class Look(Generic[T]):
    """Reads, one read after the other.

    Attributes:
        blind: whether the last one has not been answered: what there is to tell is not known.
    """

    def __init__(self) -> None:
        self.blind = False
        self._reading: asyncio.Task[T] | None = None

    @property
    def pending(self) -> bool:
        """Whether a read goes on that was not waited for."""
        return self._reading is not None

    def close(self) -> None:
        """Ask for no more."""
        if self._reading is not None:
            self._reading.cancel()

    async def take(
        self, read: Callable[[], Coroutine[Any, Any, T]], patience: Patience
    ) -> T | None:
        """Return what a read gives, of the pending one if there is one.

        Returns `None` when a heartbeat is due before that, or after a fault and a pause.
        """
        if self._reading is None:
            self._reading = asyncio.create_task(read())
        await asyncio.wait((self._reading,), timeout=patience.for_a_look_s)
        self.blind = True
        if not self._reading.done():
            return None
        ended, self._reading = self._reading, None
        try:
            found = ended.result()
        except StoreBusy as fault:
            await asyncio.sleep(min(fault.retry_after_s, patience.until_due_s))
            return None
        self.blind = False
        return found
