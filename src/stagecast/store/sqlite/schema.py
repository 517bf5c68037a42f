"""Detection of schema changes in an open file.

A newer release may migrate the file while this one serves it, and a copy restored into it, as by
`sqlite3 FILE ".restore COPY"`, brings its own schema. An older one is migrated as at a start; one
that lets this release go on is used as it is; any other, or a foreign one, is never written to.
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
from stagecast.store.sqlite.migrations import migrations, upgrade

_log = logging.getLogger(__name__)


class OpenSchema:
    """The schema that the writer relies on; created when it is up to date.

    Args:
        connection: of the writer; used on its thread only.
        path: of the file.
    """

    def __init__(self, connection: Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._version = self._read_version()

    def check(self) -> bool:
        """Check that this release can use the schema; takes some microseconds.

        Returns:
            Whether it was written anew: by a migration, or with the whole file.

        Raises:
            StoreBusy: this release cannot use it any more.
        """
        version = self._read_version()
        if version == self._version:
            return False
        fault = find_schema_fault(self._connection, self._path)
        if fault is not None:
            raise fault
        self._version = version
        return True

    def migrate(self) -> None:
        """Migrate an older schema, in a transaction with the write lock."""
        if self._read_version() == self._version:
            return
        db = Database(self._connection)
        try:
            check_ours(db, self._path)
        except StartError:  # `check` reports it
            return
        if migrations.pending(db):
            _log.warning("upgrading an older copy that was written into %s", shown(self._path))
            upgrade(db)

    def _read_version(self) -> tuple[int, int]:
        """Return numbers that change with the schema, and with who may use it."""
        [(schema_version,)] = self._connection.execute("PRAGMA schema_version")
        [(oldest_writer,)] = self._connection.execute("PRAGMA user_version")
        return schema_version, oldest_writer


def find_schema_fault(connection: Connection, path: Path) -> Exception | None:
    """Return the error for a schema that changed since the file was opened, else `None`.

    Distinguishes a changed schema from a bug after an error that may be either.
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
        why = f"an older copy was written into {shown(path)} and is about to be upgraded"
    return StoreBusy(f"the store cannot be used now: {why}", retry_after_s=RETRY_AFTER_S)


def may_be_schema(error: DriverError) -> bool:
    """Return whether an error may be due to another schema: no such table or column."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_ERROR
