"""Opening a file that has to be stagecast's already, to look at it without a server."""

from __future__ import annotations

from pathlib import Path

from sqlite_utils import Database

from stagecast.errors import StartError
from stagecast.store.sqlite.connection import Connection, DriverError, check_ours, open_reader
from stagecast.store.sqlite.migrations import APPLICATION_ID, migrations


def open_stored(path: Path) -> Connection:
    """Open the file to read it; servers may be using it.

    Raises:
        StartError: it is not there, cannot be read, or is not one of stagecast's, of this release
            or an older one.
    """
    if not path.is_file():
        raise StartError(f"cannot open {path}: there is no such file")
    try:
        connection = open_reader(path)
    except DriverError as error:
        raise StartError(f"cannot open {path}: {error}") from error
    try:
        _check_schema(connection, path)
    except DriverError as error:
        connection.close()
        raise StartError(f"cannot use {path}: {error}") from error
    except StartError:
        connection.close()
        raise
    return connection


def check_current(connection: Connection, path: Path) -> None:
    """Return if a file has the schema of this release.

    Raises:
        StartError: it is older.
    """
    if migrations.pending(Database(connection)):
        raise StartError(
            f"{path} was made by an older release; `stagecast serve` brings it up to date"
        )


def _check_schema(connection: Connection, path: Path) -> None:
    db = Database(connection)
    check_ours(db, path)
    [(application_id,)] = db.execute("PRAGMA application_id").fetchall()
    if application_id != APPLICATION_ID:
        raise StartError(f"{path} is empty")
