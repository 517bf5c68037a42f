"""A server on a thread of its own, and a proxy before it, for tests that block as pipelines do."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

from stagecast.app import App
from stagecast.config import Config
from tests.process import free_address
from tests.proxy import Proxy

T = TypeVar("T")


def until(holds: Callable[[], object], *, within_s: float = 60) -> None:
    """Wait on this thread until a condition holds."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "the condition does not hold"
        time.sleep(0.01)


class LoopThread:
    """An event loop on a thread."""

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the thread, and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(120)


class Background:
    """A server at a fixed address, which can be started and stopped.

    Attributes:
        address: of the server.
    """

    def __init__(self, thread: LoopThread, db: Path) -> None:
        self._thread = thread
        self._db = db
        self._app: App | None = None
        self.address = free_address()

    def start(self) -> None:
        """Start the server."""
        self._thread.run(self._start())

    def stop(self) -> None:
        """Stop the server, if it runs."""
        if self._app is not None:
            self._thread.run(self._app.__aexit__(None, None, None))
            self._app = None

    @contextlib.contextmanager
    def proxied(self) -> Iterator[HoldingProxy]:
        """Run a proxy before the server during the block."""
        with contextlib.ExitStack() as stack:
            proxy = HoldingProxy(self._thread, self.address)
            running = proxy.running()
            self._thread.run(_enter(running))
            stack.callback(lambda: self._thread.run(_exit(running)))
            yield proxy

    async def _start(self) -> None:
        config = Config(
            db=self._db, grpc=self.address, http="127.0.0.1:0", drain_s=5.0, linger_s=0.0
        )
        self._app = await App(config).__aenter__()


class HoldingProxy(Proxy):
    """A proxy that can hold everything back."""

    def __init__(self, thread: LoopThread, target: str) -> None:
        super().__init__(target)
        self._loop = thread.loop
        self._free = asyncio.Event()
        self._free.set()

    def hold(self) -> None:
        """Forward nothing until `let_go`."""
        self._loop.call_soon_threadsafe(self._free.clear)

    def let_go(self) -> None:
        """Forward what was held back, and what follows."""
        self._loop.call_soon_threadsafe(self._free.set)

    async def _forward(self, chunk: bytes, writer: asyncio.StreamWriter) -> None:
        await self._free.wait()
        await super()._forward(chunk, writer)


async def _enter(running: contextlib.AbstractAsyncContextManager[Proxy]) -> None:
    await running.__aenter__()


async def _exit(running: contextlib.AbstractAsyncContextManager[Proxy]) -> None:
    await running.__aexit__(None, None, None)
