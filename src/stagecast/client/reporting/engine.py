"""`Engine`: an outbox with its thread, its spool and its workers' names.

A forked child begins anew with an empty outbox. At the end of the interpreter what waits is sent
for up to five seconds.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import logging
import os
import sys
import time
import weakref
from collections.abc import Callable

from stagecast.client.endpoint import Endpoint
from stagecast.client.reporting.options import make_worker
from stagecast.client.reporting.outbox import Outbox
from stagecast.client.reporting.sender import Sender
from stagecast.client.reporting.spool import Spool

EXIT_S = 5.0

_log = logging.getLogger("stagecast")


class Engine:
    """Sends reports of this process.

    Args:
        endpoint: where to.
        worker: the name of the worker, by default one that is unique to the process.
        spool: the file that keeps what waits.

    Attributes:
        outbox: what waits.
        worker: what the names of workers begin with.
        generation: how many forks there were between it and the process that made it.
    """

    def __init__(
        self, endpoint: Endpoint, *, worker: str | None = None, spool: str | None = None
    ) -> None:
        self.endpoint = endpoint
        self.generation = 0
        self._named = worker or ""
        self._spool_path = spool
        self._start_anew()
        if self._spool is not None:
            with self.outbox.changed:  # all of it comes before what is put in later
                self._spool.restore(self.outbox)
        _engines.add(self)

    def next_worker(self, *, shared: bool = False) -> str:
        """Return the name of a worker.

        Args:
            shared: whether each call returns another name, even if the worker was named: several
                blocks of one process may share a batch.
        """
        named = "" if self.generation else self._named
        if named and not shared:
            return named
        number = next(self._numbers)
        name = named or self.worker
        return name if number == 1 else f"{name[:240]}-{number}"

    def wait(self, condition: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait until a condition holds, and return whether it does."""
        with self.outbox.changed:
            return self.outbox.changed.wait_for(condition, timeout_s)

    async def wait_async(self, condition: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait until a condition holds, and return whether it does."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(changed.set)

        with self.outbox.listening(notify), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.holds(condition):
                    await changed.wait()
                    changed.clear()
        return self.holds(condition)

    def holds(self, condition: Callable[[], bool]) -> bool:
        """Return whether a condition holds."""
        with self.outbox.changed:
            return condition()

    def hurry(self) -> None:
        """Send at once what waits."""
        self.outbox.flush()
        self._sender.hurry()

    def close(self) -> None:
        """End the thread once all is sent."""
        self._sender.close()

    def finish(self, deadline: float) -> None:
        """Send what waits until a time, and count the rest as undelivered."""
        if self.outbox.idle:
            return self._sender.stop()
        self.outbox.flush()
        self._sender.hurry(always=True)
        with contextlib.suppress(KeyboardInterrupt):  # then not for so long
            if self._sender.running:
                self.wait(lambda: self.outbox.idle, max(0.0, deadline - time.monotonic()))
            else:
                self._sender.run_until(deadline)
        if self._spool is None:
            self.outbox.give_up(self.outbox.offline or "the server did not answer in time")
        elif waiting := sum(batch.waiting for batch in self.outbox.waiting):
            _log.info("%d reports wait in %s for the next start", waiting, self._spool_path)
        return self._sender.stop()

    # Forks.

    def hold(self) -> None:
        """Make no calls and change nothing until `release`."""
        self._sender.hold()
        self.outbox.changed.acquire()

    def release(self) -> None:
        """Go on."""
        self.outbox.changed.release()
        self._sender.release()

    def begin_anew(self) -> None:
        """Begin anew in a child: what waits is the parent's to send."""
        self.generation += 1
        _inherited.append(self._sender)  # closing its channel would touch the parent's connection
        if self._spool is not None:
            self._spool.leave()
        self._start_anew()

    def _start_anew(self) -> None:
        self.worker = make_worker()
        self._numbers = itertools.count(1)
        self._spool = None if self._spool_path is None else Spool(self._spool_path)
        self.outbox = Outbox(journal=self._spool, wake=self._wake)
        self._sender = Sender(self.outbox, self.endpoint)
        self._registered = False

    def _wake(self) -> None:
        if not self._registered:
            self._registered = True
            _finish_at_exit(self)
        self._sender.start()


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()  # hooks of forks cannot be removed
_inherited: list[Sender] = []


def _finish_at_exit(engine: Engine) -> None:
    atexit.register(_finish, engine)
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        # Processes of multiprocessing end without `atexit`.
        from multiprocessing.util import Finalize

        Finalize(None, _finish, args=(engine,), exitpriority=100)


def _finish(engine: Engine) -> None:
    global _exit_at  # all engines of a process share the time
    if _exit_at is None:
        _exit_at = time.monotonic() + EXIT_S
    engine.finish(_exit_at)


_exit_at: float | None = None


_held: list[Engine] = []  # another thread may make an engine while a fork is under way


def _hold_all() -> None:
    _held.extend(_engines)
    for engine in _held:
        engine.hold()


def _release_all() -> None:
    while _held:
        _held.pop().release()


def _begin_all_anew() -> None:
    _held.clear()
    for engine in [*_engines]:
        engine.begin_anew()


os.register_at_fork(before=_hold_all, after_in_parent=_release_all, after_in_child=_begin_all_anew)
