"""What the system and SQLite say of a failure, and what they leave out: that files are too many."""

from __future__ import annotations

import contextlib
import errno
import os
import resource

# What SQLite says whatever the cause; where it copies, its driver has no code for it.
_CANNOT_OPEN = "unable to open database file"
_OF_SQLITE = 10  # files that it opens: of a store and of a copy, each with its companions


def reason_of(error: BaseException) -> str:
    """Return what is told of a failure of the system or of SQLite behind what could not be done.

    Where the limit of open files is the cause, it says so, and what to do about it.
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
    """Tell whether the limit of open files is the cause of a failure of the system."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def _try_to_open_some() -> int | None:
    """Return the code of the error that comes of opening as many files as SQLite wants.

    SQLite does not say why it could not, and has closed some that it had opened before that one.
    """
    with contextlib.ExitStack() as opened:
        try:
            for _ in range(_OF_SQLITE):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            return error.errno
    return None
