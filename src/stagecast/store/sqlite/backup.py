"""Online backup: copies a file while servers use it.

The copy is one consistent snapshot and blocks no writer. It gets its name only once it is complete,
synced and checked, so a partial file never has that name.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from sqlite_utils.utils import sqlite3

from stagecast.errors import StartError
from stagecast.failures import reason_of
from stagecast.paths import shown
from stagecast.store.sqlite.connection import Connection, DriverError
from stagecast.store.sqlite.database_files import open_existing, stop_if_cancelled
from stagecast.store.sqlite.permissions import check_length, resolve_path
from stagecast.threads import is_cancelled

_PAGES = 4096  # copied in one step


def copy_file(source: Path, target: Path, *, overwrite: bool) -> int:
    """Copy a file and return how many bytes the copy has.

    Raises:
        StartError: the source cannot be read or is not a stagecast database; the target cannot be
            written, exists without `overwrite`, or may be in use.
    """
    resolved = _check_target(source, target, overwrite=overwrite)
    with _as_start_error(source, target):
        with _temporary_file(resolved) as temporary:
            with open_existing(source) as connection, _as_start_error(source, target):
                _copy(connection, temporary)
            shutil.copymode(source, temporary)
            _sync(temporary)
            _check_target(source, target, overwrite=overwrite)
            _check_cancelled()
            temporary.replace(resolved)
        _sync(resolved.parent)
        return resolved.stat().st_size


@contextlib.contextmanager
def _as_start_error(source: Path, target: Path) -> Iterator[None]:
    """Turn errors that do not name a file into one that names both.

    Raises:
        StartError: the block raised one.
    """
    try:
        yield
    except (DriverError, OSError) as error:
        why = reason_of(error)
        raise StartError(f"cannot copy {shown(source)} to {shown(target)}: {why}") from error


def _check_target(source: Path, target: Path, *, overwrite: bool) -> Path:
    """Return the path of the copy, with symbolic links resolved."""
    resolved = resolve_path(target, doing="copy to")
    if _is_same(source, resolved):
        raise StartError(
            f"cannot copy {shown(source)} onto itself: {shown(target)} is the same file"
        )
    if resolved.exists() and not overwrite:
        raise StartError(f"{shown(target)} already exists; use --overwrite to replace it")
    # SQLite would apply its contents to the copy.
    log = f"{resolved}-wal"
    if os.path.lexists(log):
        raise StartError(f"{shown(target)} may be in use: {shown(log)} exists")
    return resolved


def _is_same(source: Path, resolved: Path) -> bool:
    try:
        return resolved.samefile(source)
    except OSError:  # one does not exist; opening the source reports that
        return False


@contextlib.contextmanager
def _temporary_file(resolved: Path) -> Iterator[Path]:
    """Create a temporary file beside the target and remove what is left of it afterwards."""
    # Not named after the target, whose name may have the maximum length.
    path = resolved.with_name(f".stagecast-{secrets.token_hex(4)}")
    check_length(path)
    path.touch(mode=0o600, exist_ok=False)
    try:
        yield path
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)


def _copy(source: Connection, path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # the complete file is synced later
        stop_if_cancelled(copy)
        # In steps, to end in between if cancelled; the transaction makes them one snapshot.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        source.backup(copy, pages=_PAGES, progress=_check_cancelled)
        [(verdict,)] = copy.execute("PRAGMA quick_check(1)")
    if verdict != "ok":
        raise StartError(f"the file is damaged and was not copied: {verdict}".replace("\n", " "))


def _check_cancelled(*_: object) -> None:
    """End a copy that was cancelled.

    Raises:
        StartError: it was.
    """
    if is_cancelled():
        raise StartError("the copy was interrupted")


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
