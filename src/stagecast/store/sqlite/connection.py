"""Opening an SQLite file: pragmas, migrations, and detection of foreign files.

The driver is the one that sqlite-utils selects, `pysqlite3` where it is installed, whose errors are
not those of the standard library.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from stagecast.errors import StartError, StoreBusy
from stagecast.escaping import quote
from stagecast.failures import reason_of
from stagecast.model import BatchState, DocumentState, Stage, TransitionKind
from stagecast.paths import shown
from stagecast.store.sqlite.migrations import APPLICATION_ID, find_newer, migrations, upgrade
from stagecast.store.sqlite.permissions import check_access

Connection = sqlite3.Connection
Cursor = sqlite3.Cursor
DriverError = sqlite3.Error

# Without a registered adapter the driver searches 0.7 µs for one, for each value that is not
# exactly an int, float or str; rows have many enums and NULLs, and some bytes.
for _enum in (BatchState, DocumentState, Stage, TransitionKind):
    sqlite3.register_adapter(_enum, int)
sqlite3.register_adapter(type(None), lambda _: None)
sqlite3.register_adapter(bytes, lambda encoded: encoded)

BUSY_TIMEOUT_MS = 5_000  # how long a connection waits for a lock of another process
RETRY_AFTER_S = 1.0
_RETRY_EVERY_S = 0.001
_MIGRATION_TIMEOUT_S = 600.0  # a file of tens of gigabytes takes minutes

_log = logging.getLogger(__name__)

_FAULTS = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def open_writer(path: Path) -> Connection:
    """Open the file for the one writer; create it, or migrate its schema, if necessary.

    Raises:
        StartError: it cannot be opened, is not a stagecast database, or is of a newer release that
            does not let this one use it.
    """
    resolved = check_access(path)
    try:
        connection = _connect(resolved.as_uri())
    except sqlite3.Error as error:
        raise StartError(f"cannot open {shown(path)}: {reason_of(error)}") from error
    try:
        # A foreign file must stay unchanged, so it is checked before WAL is switched on.
        _migrate(Database(connection), path)
        _switch_to_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA data_version").fetchone()  # opens the -wal and -shm files
    except sqlite3.Error as error:
        connection.close()
        raise StartError(f"cannot use {shown(path)}: {explain(error)}") from error
    except StartError:
        connection.close()
        raise
    return connection


def open_reader(path: Path, *, immutable: bool = False) -> Connection:
    """Open an existing file for one reader thread.

    Args:
        path: the file.
        immutable: read without locks and without -wal and -shm files; requires that no process
            writes the file.
    """
    query = "mode=ro&immutable=1" if immutable else "mode=rw"
    connection = _connect(f"{path.absolute().as_uri()}?{query}")
    connection.execute("PRAGMA query_only = ON")
    return connection


def begin_to_write(connection: Connection, *, meanwhile: Callable[[], None]) -> None:
    """Begin a transaction with the write lock, waiting while another process holds it.

    SQLite's own pauses grow to 100 ms; in that time a busy process releases and acquires the lock
    many times.

    Args:
        connection: of the writer.
        meanwhile: called every millisecond while waiting.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if _primary(error.sqlite_errorcode) != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() > deadline:
                    raise
            else:
                return
            meanwhile()
            time.sleep(_RETRY_EVERY_S)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def translate(error: Exception) -> Exception:
    """Turn a fault of the file or disk into `StoreBusy`; any other error is a bug and stays."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None or _primary(code) not in _FAULTS:
        return error
    return StoreBusy(
        f"the store cannot be used now: {reason_of(error)}", retry_after_s=RETRY_AFTER_S
    )


def explain(error: sqlite3.Error) -> str:
    """Return the reason why a file cannot be used, for users."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if is_damage(error):
        return f"damaged, or not a stagecast database: {error}"
    if code == sqlite3.SQLITE_BUSY:
        return f"{error}; another program has held the write lock for {BUSY_TIMEOUT_MS / 1000:g} s"
    return reason_of(error)


def is_damage(error: BaseException) -> bool:
    """Return whether an error means that the contents of the file are damaged."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and _primary(code) in _DAMAGE


def forget_pages(connection: Connection) -> None:
    """Drop cached pages, outside a transaction: damage may have been repaired since."""
    connection.execute("PRAGMA shrink_memory")


def check_soundness(path: Path) -> None:
    """Check the whole file on a new connection, without cached pages.

    Raises:
        StoreBusy: it is damaged, or cannot be read.
    """
    try:
        with contextlib.closing(open_reader(path)) as connection:
            [(verdict,)] = connection.execute("PRAGMA quick_check(1)")
    except sqlite3.Error as error:
        raise translate(error) from error
    if verdict != "ok":
        in_one_line = " ".join(str(verdict).split())
        raise StoreBusy(f"the store is damaged: {in_one_line}", retry_after_s=RETRY_AFTER_S)


def _primary(code: int) -> int:
    """Return the low byte of an error code: the primary code without details."""
    return code & 0xFF


def _connect(uri: str) -> Connection:
    # Autocommit: transactions are begun and ended explicitly. The connection is used by one thread
    # and closed by another, after the first has ended.
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=BUSY_TIMEOUT_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _migrate(db: Database, path: Path) -> None:
    # Deferred transactions of two starting processes would make each other fail: lock first.
    # The transactions of sqlite-utils inside are savepoints.
    _begin_to_migrate(db, path)
    try:
        check_ours(db, path)
        upgrade(db)
    except BaseException:
        db.rollback()
        raise
    db.commit()


def _begin_to_migrate(db: Database, path: Path) -> None:
    """Take the write lock; wait while another process migrates an older file."""
    deadline = time.monotonic() + _MIGRATION_TIMEOUT_S
    while True:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            check_ours(db, path)
            if time.monotonic() > deadline or not migrations.pending(db):
                raise
            _log.info("%s is locked, possibly by a process that upgrades it; waiting", shown(path))
        else:
            return


def _switch_to_wal(connection: Connection) -> None:
    """Set WAL mode; SQLite itself does not wait for another process that does the same."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def check_ours(db: Database, path: Path) -> None:
    """Check that a file is empty, or a stagecast database that this release can use.

    Raises:
        StartError: it is neither; a newer release may have changed it in a way that this one does
            not know.
    """
    [(application_id,)] = db.execute("PRAGMA application_id").fetchall()
    if application_id != APPLICATION_ID and (application_id or db.table_names()):
        raise StartError(f"{shown(path)} is an SQLite file, but not a stagecast database")
    newer = find_newer(db)
    if newer is not None:
        raise StartError(
            f"{shown(path)} was made by a newer release: unknown migration {quote(newer)}; "
            "use that release"
        )
