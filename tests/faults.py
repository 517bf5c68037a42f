"""What can go wrong with a store's file, done to the file of a server that runs.

Each is a context manager: the fault lasts for as long as the block.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

# The driver of the store, whose errors and locks are its own.
from sqlite_utils.utils import sqlite3

from stagecast.store.sqlite.connection import open_writer
from tests.process import ServerProcess

_PAGE = 4096
# Of <linux/prctl.h> and <linux/capability.h>.
_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


@contextlib.contextmanager
def full_disk(server: ServerProcess, db: Path) -> Iterator[None]:
    """Let no file of the server grow; like a full disk, this hits what is appended to `-wal`."""
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
    """Hold the write lock, as another process does that has stopped in a transaction."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextlib.contextmanager
def moved_away(_server: ServerProcess, db: Path) -> Iterator[None]:
    """Take the file from its place, as `rm` would."""
    aside = db.with_suffix(".aside")
    db.rename(aside)
    try:
        yield
    finally:
        aside.rename(db)


@contextlib.contextmanager
def replaced(_server: ServerProcess, db: Path) -> Iterator[None]:
    """Put another good file into its place."""
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
    """Take `-wal` from its place, where the newest commits are."""
    with moved_away(_server, _wal_of(db)):
        yield


@contextlib.contextmanager
def damaged(_server: ServerProcess, db: Path) -> Iterator[None]:
    """Overwrite all of the file but its first page with what makes no sense."""
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
        # What is in the log does not come from the damaged pages.
        while other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            pass
        other.execute("BEGIN IMMEDIATE")
        other.execute("PRAGMA user_version = 0")
        before = db.read_bytes()
        overwrite(db, before[:_PAGE] + b"\xa5" * (len(before) - _PAGE))
        # Everybody has to read the pages anew that were remembered.
        other.execute("COMMIT")
    try:
        yield
    finally:
        overwrite(db, before)


def overwrite(path: Path, content: bytes) -> None:
    """Write into the file that is there, without replacing it."""
    with path.open("r+b") as file:
        file.write(content)


def obey_modes() -> None:
    """Let this process be refused what the modes of a file forbid, also if it is root's.

    To be called in a child before it becomes another program.
    """
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "a capability cannot be dropped")


def _wal_of(db: Path) -> Path:
    return db.with_name(f"{db.name}-wal")
