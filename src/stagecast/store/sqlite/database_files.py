"""Opening an existing stagecast database to read it without a server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from stagecast.errors import StartError
from stagecast.model import ApiKey
from stagecast.paths import shown
from stagecast.store.sqlite.connection import (
    Connection,
    DriverError,
    check_ours,
    explain,
    open_reader,
)
from stagecast.store.sqlite.keys import read_keys
from stagecast.store.sqlite.migrations import APPLICATION_ID, migrations
from stagecast.store.sqlite.permissions import resolve_path
from stagecast.threads import is_cancelled

_STEPS = 100_000  # of SQLite's virtual machine: some milliseconds


@contextlib.contextmanager
def open_existing(path: Path) -> Iterator[Connection]:
    """Open the file to read it in the block; servers may be using it.

    Raises:
        StartError: it does not exist, cannot be read, or is not a stagecast database of this
            release or an older one.
    """
    resolved = resolve_path(path)
    if not resolved.exists():
        raise StartError(f"cannot open {shown(path)}: there is no such file")
    if not os.access(resolved, os.R_OK):
        raise StartError(f"cannot open {shown(path)}: it may not be read by this user")
    before = _identify(resolved)
    try:
        connection, at_rest = _open(path, resolved)
    except DriverError as error:
        raise StartError(f"cannot use {shown(path)}: {_explain(resolved, error)}") from error
    with contextlib.closing(connection):
        stop_if_cancelled(connection)
        try:
            yield connection
        except DriverError as error:
            raise StartError(f"cannot use {shown(path)}: {explain(error)}") from error
    if at_rest and not (_is_at_rest(resolved) and _identify(resolved) == before):
        raise StartError(f"{shown(path)} was written while it was read; try again")


def stop_if_cancelled(connection: Connection) -> None:
    """Let a statement, which may run for minutes, fail with a driver error once it is cancelled."""
    connection.set_progress_handler(is_cancelled, _STEPS)


def has_keys(path: Path) -> bool:
    """Return whether a file has, or had, any key; False if it does not exist.

    Raises:
        StartError: it cannot be read or is not a stagecast database.
    """
    resolved = resolve_path(path)
    if not resolved.exists() or not resolved.stat().st_size:
        return False
    return bool(list_keys(path))


def list_keys(path: Path) -> Sequence[ApiKey]:
    """Return all keys of a file, oldest first, without writing to it.

    Raises:
        StartError: it does not exist, cannot be read, or is not a stagecast database.
    """
    with open_existing(path) as connection:
        # The table is missing in a file of an early release.
        if not Database(connection).table("api_keys").exists():
            return []
        return read_keys(connection)


def check_current(connection: Connection, path: Path) -> None:
    """Check that a file has the schema of this release.

    Raises:
        StartError: it is older.
    """
    if migrations.pending(Database(connection)):
        raise StartError(
            f"{shown(path)} was made by an older release; run `stagecast serve` to upgrade it"
        )


def _check_schema(connection: Connection, path: Path) -> None:
    db = Database(connection)
    check_ours(db, path)
    [(application_id,)] = db.execute("PRAGMA application_id").fetchall()
    if application_id != APPLICATION_ID:
        raise StartError(f"{shown(path)} is empty")


def _open(path: Path, resolved: Path) -> tuple[Connection, bool]:
    """Return a connection, and whether it requires that no process writes the file.

    On read-only media SQLite cannot create the -wal and -shm files that it normally needs.
    """
    try:
        return _checked(open_reader(resolved), path), False
    except DriverError as error:
        if not (_is_directory_at_fault(error) and _is_at_rest(resolved)):
            raise
    return _checked(open_reader(resolved, immutable=True), path), True


def _checked(connection: Connection, path: Path) -> Connection:
    try:
        _check_schema(connection, path)
    except (DriverError, StartError):
        connection.close()
        raise
    return connection


def _is_directory_at_fault(error: DriverError) -> bool:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def _is_at_rest(resolved: Path) -> bool:
    """Return whether no commits are outside the file and no process has it open."""
    log, index, journal = (_size(resolved, suffix) for suffix in ("-wal", "-shm", "-journal"))
    return not log and not journal and (log is None or index is None)


def _explain(resolved: Path, error: DriverError) -> str:
    """Return the reason why a file cannot be read, for users."""
    if _size(resolved, "-wal") and not os.access(resolved.parent, os.W_OK):
        return (
            f"its newest commits are in {shown(resolved.name)}-wal, which can only be read in a "
            "writable directory: copy both files to one"
        )
    return explain(error)


def _size(resolved: Path, suffix: str) -> int | None:
    """Return the size in bytes of an accompanying file, if it exists."""
    try:
        return Path(f"{resolved}{suffix}").stat().st_size
    except OSError:  # also if the name is too long
        return None


def _identify(resolved: Path) -> tuple[int, int, int]:
    status = resolved.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
