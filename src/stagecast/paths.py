"""Paths from users: shown on one line, and read within a time limit."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path

from stagecast.errors import StartError
from stagecast.escaping import escape
from stagecast.failures import reason_of

_MAX_BYTES = 16 << 20  # larger than any key, and than all certificates that a system trusts
_PART = 1 << 16
_TIMEOUT_S = 5.0  # for a pipe, such as a shell makes of `<(command)`


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path for a message, on one line; two paths never look the same."""
    return escape(os.fspath(path))


def read_file(path: Path) -> bytes:
    """Return the content of a file that a setting names.

    Raises:
        StartError: it cannot be read, is too large, or is a pipe that sends no data in time.
    """
    try:
        # Without the flag, opening a pipe without a writer would block for ever.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:  # noqa: PTH123 - takes a descriptor
            return b"".join(_parts(file.fileno()))
    except OSError as error:
        raise StartError(f"cannot read {shown(path)}: {reason_of(error)}") from error


def _parts(descriptor: int) -> Iterator[bytes]:
    left = _MAX_BYTES
    while part := _part(descriptor):
        left -= len(part)
        if left < 0:
            raise OSError(None, f"it is larger than {_MAX_BYTES >> 20} MiB")
        yield part


def _part(descriptor: int) -> bytes:
    """Return the next part, empty at the end."""
    try:
        return os.read(descriptor, _PART)
    except BlockingIOError:
        ready, _, _ = select.select([descriptor], [], [], _TIMEOUT_S)
    if not ready:
        raise TimeoutError(None, f"no data for {_TIMEOUT_S:g} s")
    return os.read(descriptor, _PART)
