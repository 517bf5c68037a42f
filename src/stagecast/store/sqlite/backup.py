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

from sqlite_utils.utils import sqlite3

from stagecast.errors import StartError
from stagecast.failures import reason_of
from stagecast.paths import shown
from stagecast.store.sqlite.connection import Connection, DriverError
from stagecast.store.sqlite.database_files import hear_signals, open_stored
from stagecast.store.sqlite.permissions import check_length, find_place

_PART = 4096  # pages


def copy_file(source: Path, target: Path, *, overwrite: bool) -> int:
    """Copy a file and return how many bytes the copy has.

    Raises:
        StartError: the source cannot be read, or is not one of stagecast's; the target cannot be
            written, is there and is not to be overwritten, or may be in use.
    """
    place = _check_target(source, target, overwrite=overwrite)
    with _in_words(source, target):
        with _beside(place) as whole:
            with open_stored(source) as connection, _in_words(source, target):
                _copy(connection, whole)
            shutil.copymode(source, whole)
            _keep(whole)
            _check_target(source, target, overwrite=overwrite)
            whole.replace(place)
        _keep(place.parent)
        return place.stat().st_size


@contextlib.contextmanager
def _in_words(source: Path, target: Path) -> Iterator[None]:
    """Name both files where an error does not say which of them it is of.

    Raises:
        StartError: there was one.
    """
    try:
        yield
    except (DriverError, OSError) as error:
        why = reason_of(error)
        raise StartError(f"cannot copy {shown(source)} to {shown(target)}: {why}") from error


def _check_target(source: Path, target: Path, *, overwrite: bool) -> Path:
    """Return where the copy goes: behind a link, whatever that is on."""
    place = find_place(target, doing="copy to")
    if _is_same(source, place):
        raise StartError(f"{shown(target)} is the file that is to be copied")
    if place.exists() and not overwrite:
        raise StartError(f"{shown(target)} is there already")
    # What it holds would be taken for the newest of the copy.
    log = f"{place}-wal"
    if os.path.lexists(log):
        raise StartError(f"{shown(target)} may be in use: {shown(log)} is there")
    return place


def _is_same(source: Path, place: Path) -> bool:
    try:
        return place.samefile(source)
    except OSError:  # one is not there; if it is the source, who opens it says so
        return False


@contextlib.contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """Make a file for the copy until it is whole, and leave nothing under its name."""
    # Not after the copy: that may have as long a name as there can be.
    path = place.with_name(f".stagecast-{secrets.token_hex(4)}")
    check_length(path)
    path.touch(mode=0o600, exist_ok=False)
    try:
        yield path
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)


def _copy(source: Connection, path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # it is brought to disk as a whole
        hear_signals(copy)
        # In parts, between which signals are heard; the transaction keeps them to one moment.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        source.backup(copy, pages=_PART, progress=lambda *_: None)
        [(verdict,)] = copy.execute("PRAGMA quick_check(1)")
    if verdict != "ok":
        raise StartError(f"the file is damaged, and was not copied: {verdict}".replace("\n", " "))


def _keep(path: Path) -> None:
    """Bring a file, or what a directory says of its files, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
