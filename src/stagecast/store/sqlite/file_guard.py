"""Whether the file that is open is still the one that its path names.

Who has opened a file keeps it after it was deleted, or replaced by another. SQLite would go on to
write it, and what was acknowledged would be gone with the process.
"""

from __future__ import annotations

import os
from pathlib import Path

from stagecast.errors import StoreBusy
from stagecast.paths import shown
from stagecast.store.sqlite.connection import RETRY_AFTER_S

_Identity = tuple[int, int]


class OpenFiles:
    """The database and its companions `-wal` and `-shm`, as they were when they were opened.

    To be made while a connection holds all three.
    """

    def __init__(self, path: Path) -> None:
        beside = os.path.realpath(path)
        self._paths = (os.fspath(path), f"{beside}-wal", f"{beside}-shm")
        self._opened = {path: _identify(path) for path in self._paths}

    def check(self) -> None:
        """Return if all are in their places; takes some microseconds.

        Raises:
            StoreBusy: one was deleted or replaced, which may be undone.
        """
        for path, opened in self._opened.items():
            if _identify(path) != opened:
                raise StoreBusy(
                    f"the store cannot be used now: {shown(path)} was deleted or replaced while it "
                    "was open; put it back, or start the server again",
                    retry_after_s=RETRY_AFTER_S,
                )


def _identify(path: str) -> _Identity | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path costs more than the call, for each commit
    except OSError:
        return None
    return status.st_dev, status.st_ino
