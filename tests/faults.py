"""Faults of a store's file, injected into the file of a running server.

Each is a context manager: the fault lasts for the block. A hanging disk is imitated by store
threads that do not return, in a store of this process, or by a lease that lets `open` hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

# The driver of the store, whose errors and locks are its own.
from sqlite_utils.utils import sqlite3

from stagecast.app import App
from stagecast.model import ALL
from stagecast.store.sqlite import SqliteStore
from stagecast.store.sqlite import store as sqlite_store
from stagecast.store.sqlite.connection import open_writer
from tests.conditions import until
from tests.process import ServerProcess

_PAGE = 4096
# PR_CAPBSET_DROP of <linux/prctl.h>; CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
_OBEY_MODES = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in (1, 2):
    if libc.prctl(24, capability, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "a capability cannot be dropped")
os.execv(sys.argv[1], sys.argv[1:])
"""


@contextlib.contextmanager
def full_disk(server: ServerProcess, db: Path) -> Iterator[None]:
    """Let no file of the server grow; like a full disk, this stops appending to `-wal`."""
    pid = server.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (_wal_of(db).stat().st_size, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it may have ended meanwhile
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def locked(_server: ServerProcess, db: Path) -> Iterator[None]:
    """Hold the write lock, like a process that has stopped in a transaction."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def hanging_open(db: Path) -> Iterator[Callable[[], bool]]:
    """Let other processes hang when they open the file; yield whether one does.

    A lease of Linux does that, as a file server may: the kernel holds them until the lease is given
    back, or for 45 s.
    """
    ignored = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel asks for the lease
    descriptor = os.open(db, os.O_RDWR)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield lambda: fcntl.fcntl(descriptor, fcntl.F_GETLEASE) != fcntl.F_WRLCK
    finally:
        os.close(descriptor)
        signal.signal(signal.SIGIO, ignored)


@contextlib.contextmanager
def moved_away(_server: ServerProcess, db: Path) -> Iterator[None]:
    """Move the file away, as `rm` would."""
    aside = db.with_suffix(".aside")
    db.rename(aside)
    try:
        yield
    finally:
        aside.rename(db)


@contextlib.contextmanager
def replaced(_server: ServerProcess, db: Path) -> Iterator[None]:
    """Replace the file by another valid one."""
    other, aside = db.with_suffix(".other"), db.with_suffix(".aside")
    open_writer(other).close()
    os.link(db, aside)
    other.rename(db)
    try:
        yield
    finally:
        aside.rename(db)


@contextlib.contextmanager
def without_log(_server: ServerProcess, db: Path) -> Iterator[None]:
    """Move `-wal` away, which has the newest commits."""
    with moved_away(_server, _wal_of(db)):
        yield


@contextlib.contextmanager
def damaged(_server: ServerProcess, db: Path) -> Iterator[None]:
    """Overwrite all pages of the file but the first with garbage."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
        # Pages in the log would not be read from the damaged file.
        while other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            pass
        other.execute("BEGIN IMMEDIATE")
        other.execute("PRAGMA user_version = 0")
        before = db.read_bytes()
        overwrite(db, before[:_PAGE] + b"\xa5" * (len(before) - _PAGE))
        # All connections have to read cached pages again.
        other.execute("COMMIT")
    try:
        yield
    finally:
        overwrite(db, before)


class OpenApp(App):
    """A server of this process with access to its store."""

    store: SqliteStore

    async def _open_store(self, *args: Any) -> SqliteStore:
        self.store = await super()._open_store(*args)
        return self.store


@contextlib.asynccontextmanager
async def hanging_writes(store: SqliteStore) -> AsyncIterator[None]:
    """Let the writer thread hang in a transaction."""
    held, begun = threading.Event(), threading.Semaphore(0)
    async with _hanging(store.write(lambda _: _hang(held, begun), visible=ALL), held=held):
        await until(lambda: begun.acquire(blocking=False))
        yield


@contextlib.asynccontextmanager
async def hanging_reads(store: SqliteStore) -> AsyncIterator[None]:
    """Let all reader threads hang."""
    held, begun = threading.Event(), threading.Semaphore(0)
    reads = [
        store.read(lambda _: _hang(held, begun), visible=ALL) for _ in range(sqlite_store._READERS)
    ]
    async with _hanging(*reads, held=held):
        for _ in reads:
            await until(lambda: begun.acquire(blocking=False))
        yield


def _hang(held: threading.Event, begun: threading.Semaphore) -> None:
    begun.release()
    held.wait()


@contextlib.asynccontextmanager
async def _hanging(*works: Coroutine[Any, Any, None], held: threading.Event) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        held.set()
        await asyncio.gather(*tasks)


def overwrite(path: Path, content: bytes) -> None:
    """Write into an existing file, without replacing it."""
    with path.open("r+b") as file:
        file.write(content)


def obeying_modes(command: Sequence[str]) -> list[str]:
    """Return a command line that obeys file modes, also if it is run by root.

    Capabilities are dropped by a program of its own, since forking this one would involve gRPC.
    """
    return [sys.executable, "-c", _OBEY_MODES, *command] if os.geteuid() == 0 else [*command]


def _wal_of(db: Path) -> Path:
    return db.with_name(f"{db.name}-wal")
