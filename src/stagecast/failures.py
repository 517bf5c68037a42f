"""Messages for errors of the system and SQLite, which may hide that too many files are open."""

from __future__ import annotations

import contextlib
import errno
import os
import resource

# SQLite's message whatever the cause; the driver gives no code for an error of a copy.
_CANNOT_OPEN = "unable to open database file"
_SQLITE_FILES = 10  # that it opens: a store and a copy, each with its `-wal` and `-shm`


def reason_of(error: BaseException) -> str:
    """Return the message for an error of the system or of SQLite.

    If the limit of open files is the cause, the message says so, and what to do.
    """
    code = getattr(error, "errno", None)
    if str(error) == _CANNOT_OPEN:
        code = _try_to_open_some()
    if code == errno.EMFILE:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"the limit of open files, {limit}, is reached; raise it with 'ulimit -n'"
    if code == errno.ENFILE:
        return "the limit of open files of the whole system is reached"
    return getattr(error, "strerror", None) or str(error)


def is_too_many_files(error: BaseException) -> bool:
    """Return whether the limit of open files is the cause of an error."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def _try_to_open_some() -> int | None:
    """Return the code of the error of opening as many files as SQLite does, if there is one.

    SQLite does not report why it failed, and has closed the files that it had opened before.
    """
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(_SQLITE_FILES):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            return error.errno
    return None
