"""Whether what is in an open file still has the schema of this release.

A copy that is written into the file, as `sqlite3 FILE ".restore COPY"` does, brings its own: an
older one is brought up to date by the steps that do so at a start, and what is newer or another's
is never written.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from stagecast.errors import StartError, StoreBusy
from stagecast.paths import shown
from stagecast.store.sqlite.connection import (
    RETRY_AFTER_S,
    Connection,
    DriverError,
    check_ours,
    translate,
)
from stagecast.store.sqlite.migrations import migrations

_log = logging.getLogger(__name__)


class OpenSchema:
    """The schema that the writer relies on. To be made when it is up to date.

    Args:
        connection: of the writer, by whose thread this is used.
        path: of the file.
    """

    def __init__(self, connection: Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._version = self._read_version()

    def check(self) -> None:
        """Return if the schema is that of this release; takes some microseconds.

        Raises:
            StoreBusy: it is another by now.
        """
        version = self._read_version()
        if version == self._version:
            return
        fault = find_schema_fault(self._connection, self._path)
        if fault is not None:
            raise fault
        self._version = version

    def bring_up_to_date(self) -> None:
        """Migrate a schema that is older; to be called in a transaction that has the lock."""
        if self._read_version() == self._version:
            return
        db = Database(self._connection)
        try:
            check_ours(db, self._path)
        except StartError:  # as `check` tells
            return
        if migrations.pending(db):
            _log.warning("bringing an older copy up to date, written into %s", shown(self._path))
            migrations.apply(db)

    def _read_version(self) -> int:
        """Return a number that changes with every change of the schema."""
        [(version,)] = self._connection.execute("PRAGMA schema_version")
        return int(version)


def find_schema_fault(connection: Connection, path: Path) -> Exception | None:
    """Return what is wrong with the schema of a file that was sound when it was opened, if it is.

    To be asked by who met an error that does not tell a bug from another schema.
    """
    db = Database(connection)
    try:
        check_ours(db, path)
        if not migrations.pending(db):
            return None
    except StartError as error:
        why = str(error)
    except DriverError as error:
        return translate(error)
    else:
        why = f"an older copy was written into {shown(path)}, and is about to be brought up to date"
    return StoreBusy(f"the store cannot be used now: {why}", retry_after_s=RETRY_AFTER_S)


def may_be_schema(error: DriverError) -> bool:
    """Tell whether an error may come from another schema: there is no such table or column."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_ERROR
