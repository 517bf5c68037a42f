"""Detection of database files that were deleted or replaced while open.

An open file survives its deletion or replacement. SQLite would continue to write it, and
acknowledged writes would be lost when the process ends.
"""

from __future__ import annotations

import os
from pathlib import Path

from stagecast.errors import StoreBusy
from stagecast.paths import shown
from stagecast.store.sqlite.connection import RETRY_AFTER_S

_Identity = tuple[int, int]


class OpenFiles:
    """The identities of the database and its `-wal` and `-shm` files at the time of opening.

    Created while a connection has all three open.
    """

    def __init__(self, path: Path) -> None:
        resolved = os.path.realpath(path)
        self._paths = (os.fspath(path), f"{resolved}-wal", f"{resolved}-shm")
        self._opened = {path: _identify(path) for path in self._paths}

    def check(self) -> None:
        """Check that the paths still name the open files; takes some microseconds.

        Raises:
            StoreBusy: one was deleted or replaced; putting it back ends the fault.
        """
        for path, opened in self._opened.items():
            if _identify(path) != opened:
                raise StoreBusy(
                    f"the store cannot be used now: {shown(path)} was deleted or replaced while it "
                    "was open; put it back, or restart the server",
                    retry_after_s=RETRY_AFTER_S,
                )


def _identify(path: str) -> _Identity | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path costs more than the call, on every commit
    except OSError:
        return None
    return status.st_dev, status.st_ino
