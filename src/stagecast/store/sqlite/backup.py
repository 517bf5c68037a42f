"""Copying a file while servers go on with it.

The copy is one read of one moment, which no writer waits for. It gets its name when it is whole, on
disk and found sound, so that there is never half a file under it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # the driver it picked

from stagecast.errors import StartError
from stagecast.store.sqlite.connection import Connection, DriverError
from stagecast.store.sqlite.files import open_stored


def copy_file(source: Path, target: Path, *, overwrite: bool) -> int:
    """Copy a file and return how many bytes the copy has.

    Raises:
        StartError: the source cannot be read, or is not one of stagecast's; the target cannot be
            written, is there and is not to be overwritten, or may be in use.
    """
    _check_target(source, target, overwrite=overwrite)
    with contextlib.closing(open_stored(source)) as connection:
        try:
            with _beside(target) as whole:
                _copy(connection, whole)
                shutil.copymode(source, whole)
                _keep(whole)
                _check_target(source, target, overwrite=overwrite)
                whole.replace(target)
            _keep(target.absolute().parent)
        except (DriverError, OSError) as error:
            raise StartError(f"cannot copy {source} to {target}: {error}") from error
    return target.stat().st_size


def _check_target(source: Path, target: Path, *, overwrite: bool) -> None:
    directory, log = target.absolute().parent, Path(f"{target}-wal")
    if not directory.is_dir():
        raise StartError(f"cannot copy to {target}: there is no directory {directory}")
    if source.exists() and target.exists() and target.samefile(source):
        raise StartError(f"{target} is the file that is to be copied")
    if target.exists() and not overwrite:
        raise StartError(f"{target} is there already")
    # What it holds would be taken for the newest of the copy.
    if log.exists():
        raise StartError(f"{target} may be in use: {log} is there")


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Make a file for the copy until it is whole, and leave nothing under its name."""
    path = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    path.touch(mode=0o600, exist_ok=False)
    try:
        yield path
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)


def _copy(source: Connection, path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # it is brought to disk as a whole
        source.backup(copy)
        [(found,)] = copy.execute("PRAGMA quick_check(1)")
    if found != "ok":
        raise StartError(f"the file is damaged, and was not copied: {found}".replace("\n", " "))


def _keep(path: Path) -> None:
    """Bring a file, or what a directory says of its files, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
