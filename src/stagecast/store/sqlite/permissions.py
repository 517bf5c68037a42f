"""Whether a file can be where a path says, and whether this user may use it.

SQLite opens what it may not write for reading, and has one word for all that it cannot open. Nor
may a file be opened to see: to close it again would let go of the locks that this process has on it
by other connections.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from stagecast.errors import StartError
from stagecast.failures import reason_of
from stagecast.paths import shown

_LONGEST_SUFFIX = len("-journal")  # of the companions that lie beside a file
_MAX_PATH = 512  # bytes that SQLite has for a path, suffix included


def find_place(path: Path, *, doing: str = "open") -> Path:
    """Return where a file is or would be made, behind all links: its companions lie beside it.

    Args:
        path: as it was given.
        doing: what for, to complete the words "cannot …".

    Raises:
        StartError: there is no such place, or something else than a file is there.
    """
    cannot = f"cannot {doing} {shown(path)}"
    try:
        place = Path(os.path.realpath(path))
    except OSError as error:
        raise StartError(f"{cannot}: the current directory was deleted") from error
    _check_directory(place.parent, cannot)
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return place
    except OSError as error:
        raise StartError(f"{cannot}: {reason_of(error)}") from error
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise StartError(f"{cannot}: it is {kind}")
    return place


def check_access(path: Path) -> Path:
    """Return the place of a file that may be opened to write it, or made.

    Raises:
        StartError: there is no such place, it may not be read or written, or SQLite has no room
            for its name.
    """
    place = find_place(path)
    # The log lies beside the file, so the directory has to be writable as well.
    for part in (place.parent, place):
        if os.access(part, os.F_OK):
            _check_modes(path, part)
    check_length(place)
    return place


def check_length(place: Path) -> None:
    """Return if SQLite has room for the path of a file and its companions.

    Raises:
        StartError: it has none.
    """
    limits = (
        ("name", len(os.fsencode(place.name)), os.pathconf(place.parent, "PC_NAME_MAX")),
        ("path", len(os.fsencode(place)), _MAX_PATH),
    )
    for what, length, limit in limits:
        if length + _LONGEST_SUFFIX > limit > 0:  # -1 is no limit
            raise StartError(
                f"cannot open {shown(place)}: its {what} has {length} bytes, and SQLite takes at "
                f"most {limit - _LONGEST_SUFFIX}"
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


def _check_modes(path: Path, part: Path) -> None:
    if not os.access(part, os.R_OK):
        why = "may not be read by this user"
    elif os.access(part, os.W_OK):
        return
    elif os.statvfs(part).f_flag & os.ST_RDONLY:
        why = "is on a read-only file system"
    else:
        why = "may not be written by this user"
    raise StartError(f"cannot open {shown(path)}: {shown(part)} {why}")
