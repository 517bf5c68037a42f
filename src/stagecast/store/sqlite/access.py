"""Whether this user may use a file and its directory.

SQLite opens what it may not write for reading, and has one word for all that it cannot open.
"""

from __future__ import annotations

import os
from pathlib import Path

from stagecast.errors import StartError


def check_access(path: Path) -> None:
    """Return if the file may be opened, or made.

    Raises:
        StartError: the directory is missing, or file or directory may not be read or written.
    """
    directory = path.absolute().parent
    if not os.access(directory, os.F_OK):
        raise StartError(f"cannot open {path}: there is no directory {directory}")
    # The log lies beside the file, so the directory has to be writable as well.
    for place, mode, needed in (
        (directory, os.R_OK | os.X_OK, "read"),
        (directory, os.W_OK, "written"),
        (path, os.R_OK, "read"),
        (path, os.W_OK, "written"),
    ):
        if os.access(place, os.F_OK) and not os.access(place, mode):
            raise StartError(f"cannot open {path}: {place} may not be {needed} by this user")
