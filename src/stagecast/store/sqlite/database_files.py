"""Opening a file that has to be stagecast's already, to look at it without a server."""

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
from stagecast.store.sqlite.migrations import APPLICATION_ID, migrations
from stagecast.store.sqlite.permissions import find_place
from stagecast.store.sqlite.read_transaction import SqliteReadTransaction

_STEPS = 100_000  # of SQLite's machine, some milliseconds


@contextlib.contextmanager
def open_stored(path: Path) -> Iterator[Connection]:
    """Open the file to read it in the block; servers may be using it.

    Raises:
        StartError: it is not there, cannot be read, or is not one of stagecast's, of this release
            or an older one.
    """
    place = find_place(path)
    if not place.exists():
        raise StartError(f"cannot open {shown(path)}: there is no such file")
    if not os.access(place, os.R_OK):
        raise StartError(f"cannot open {shown(path)}: it may not be read by this user")
    before = _identify(place)
    try:
        connection, at_rest = _open(path, place)
    except DriverError as error:
        raise StartError(f"cannot use {shown(path)}: {_why(place, error)}") from error
    with contextlib.closing(connection):
        hear_signals(connection)
        try:
            yield connection
        except DriverError as error:
            raise StartError(f"cannot use {shown(path)}: {explain(error)}") from error
    if at_rest and not (_is_at_rest(place) and _identify(place) == before):
        raise StartError(f"{shown(path)} was written while it was read; try again")


def hear_signals(connection: Connection) -> None:
    """Let Python take signals also within a statement, which may run for minutes.

    If that raises, the statement ends with an error of the driver.
    """
    connection.set_progress_handler(lambda: 0, _STEPS)


def has_keys(path: Path) -> bool:
    """Tell whether there ever was a key in a file, which need not be there.

    Raises:
        StartError: it cannot be read, or is another's.
    """
    place = find_place(path)
    if not place.exists() or not place.stat().st_size:
        return False
    return bool(list_keys(path))


def list_keys(path: Path) -> Sequence[ApiKey]:
    """Return all keys of a file, the oldest first; nothing is written to it.

    Raises:
        StartError: it is not there, cannot be read, or is another's.
    """
    with open_stored(path) as connection:
        # In a file of an early release there are none.
        if not Database(connection).table("api_keys").exists():
            return []
        return SqliteReadTransaction(connection).list_keys()


def check_current(connection: Connection, path: Path) -> None:
    """Return if a file has the schema of this release.

    Raises:
        StartError: it is older.
    """
    if migrations.pending(Database(connection)):
        raise StartError(
            f"{shown(path)} was made by an older release; `stagecast serve` brings it up to date"
        )


def _check_schema(connection: Connection, path: Path) -> None:
    db = Database(connection)
    check_ours(db, path)
    [(application_id,)] = db.execute("PRAGMA application_id").fetchall()
    if application_id != APPLICATION_ID:
        raise StartError(f"{shown(path)} is empty")


def _open(path: Path, place: Path) -> tuple[Connection, bool]:
    """Return a connection, and whether it relies on that nobody writes the file.

    Beside a file on read-only media SQLite cannot make the companions that it wants to read it.
    """
    try:
        return _checked(open_reader(place), path), False
    except DriverError as error:
        if not (_is_place_at_fault(error) and _is_at_rest(place)):
            raise
    return _checked(open_reader(place, immutable=True), path), True


def _checked(connection: Connection, path: Path) -> Connection:
    try:
        _check_schema(connection, path)
    except (DriverError, StartError):
        connection.close()
        raise
    return connection


def _is_place_at_fault(error: DriverError) -> bool:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def _is_at_rest(place: Path) -> bool:
    """Tell whether all of a file is in it and nobody has it open, for whom both would be there."""
    log, index, journal = (_size(place, suffix) for suffix in ("-wal", "-shm", "-journal"))
    return not log and not journal and (log is None or index is None)


def _why(place: Path, error: DriverError) -> str:
    """Return why a file cannot be read."""
    if _size(place, "-wal") and not os.access(place.parent, os.W_OK):
        return (
            f"its newest commits are in {shown(place.name)}-wal, which takes a directory that may "
            "be written: copy both files to one"
        )
    return explain(error)


def _size(place: Path, suffix: str) -> int | None:
    """Return how many bytes a companion has, if it is there."""
    try:
        return Path(f"{place}{suffix}").stat().st_size
    except OSError:  # also if there is no room for such a name
        return None


def _identify(place: Path) -> tuple[int, int, int]:
    status = place.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
