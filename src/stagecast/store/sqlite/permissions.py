"""Checks of the path and permissions of a database file, before SQLite opens it.

SQLite opens an unwritable file for reading, and has one error for all that it cannot open. The file
is not opened to find out: closing it would release the locks that other connections of this process
hold on it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from stagecast.errors import StartError
from stagecast.failures import reason_of
from stagecast.paths import shown

_LONGEST_SUFFIX = len("-journal")  # of the files beside the database
_MAX_PATH = 512  # bytes of a path in SQLite, suffix included


def resolve_path(path: Path, *, doing: str = "open") -> Path:
    """Return the path of a file, existing or not, with symbolic links resolved.

    Args:
        path: as the user gave it.
        doing: the action, for the message "cannot …".

    Raises:
        StartError: the directory does not exist, or the path is not a regular file.
    """
    cannot = f"cannot {doing} {shown(path)}"
    try:
        resolved = Path(os.path.realpath(path))
    except OSError as error:
        raise StartError(f"{cannot}: the current directory was deleted") from error
    _check_directory(resolved.parent, cannot)
    try:
        mode = resolved.stat().st_mode
    except FileNotFoundError:
        return resolved
    except OSError as error:
        raise StartError(f"{cannot}: {reason_of(error)}") from error
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise StartError(f"{cannot}: it is {kind}")
    return resolved


def check_access(path: Path) -> Path:
    """Return the resolved path of a file that can be opened for writing, or created.

    Raises:
        StartError: the directory does not exist, permissions are missing, or the path is too long
            for SQLite.
    """
    resolved = resolve_path(path)
    # SQLite creates the -wal file there, so the directory has to be writable as well.
    for checked in (resolved.parent, resolved):
        if os.access(checked, os.F_OK):
            _check_modes(path, checked)
    check_length(resolved)
    return resolved


def check_length(resolved: Path) -> None:
    """Check that SQLite supports paths of this length.

    Raises:
        StartError: the path or name is too long.
    """
    limits = (
        ("name", len(os.fsencode(resolved.name)), os.pathconf(resolved.parent, "PC_NAME_MAX")),
        ("path", len(os.fsencode(resolved)), _MAX_PATH),
    )
    for what, length, limit in limits:
        if length + _LONGEST_SUFFIX > limit > 0:  # -1: unlimited
            raise StartError(
                f"cannot open {shown(resolved)}: its {what} has {length} bytes, and SQLite takes "
                f"at most {limit - _LONGEST_SUFFIX}"
            )


def _check_directory(directory: Path, cannot: str) -> None:
    try:
        mode = directory.stat().st_mode
    except FileNotFoundError as error:
        raise StartError(f"{cannot}: there is no directory {shown(directory)}") from error
    except OSError as error:
        raise StartError(f"{cannot}: {reason_of(error)}") from error
    if not stat.S_ISDIR(mode):
        raise StartError(f"{cannot}: {shown(directory)} is not a directory")
    if not os.access(directory, os.X_OK):
        raise StartError(f"{cannot}: {shown(directory)} may not be read by this user")


def _check_modes(path: Path, checked: Path) -> None:
    if not os.access(checked, os.R_OK):
        why = "may not be read by this user"
    elif os.access(checked, os.W_OK):
        return
    elif os.statvfs(checked).f_flag & os.ST_RDONLY:
        why = "is on a read-only file system"
    else:
        why = "may not be written by this user"
    raise StartError(f"cannot open {shown(path)}: {shown(checked)} {why}")
