"""The machine: a core for the server and one for its load, and the kernel's accounting of CPU."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils.utils import sqlite3


class NotMeasuredError(Exception):
    """The machine lacks what a figure needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Which cores the server and its load have; both are the same on a machine with one core."""

    server: frozenset[int]
    load: frozenset[int]

    @classmethod
    def detect(cls) -> Machine:
        """Divide the cores that this process may use: the first for servers, another for load."""
        if sys.platform != "linux":
            return cls(server=frozenset(), load=frozenset())
        cores = sorted(os.sched_getaffinity(0))
        return cls(server=frozenset(cores[:1]), load=frozenset(cores[-1:]))

    @contextlib.contextmanager
    def on_server_core(self) -> Iterator[None]:
        """Start processes on the core of servers during the block; they inherit it."""
        with self._on(self.server):
            yield

    @contextlib.contextmanager
    def on_load_core(self) -> Iterator[None]:
        """Keep this thread, and processes that it starts, on the core of the load."""
        with self._on(self.load):
            yield

    @contextlib.contextmanager
    def on_both_cores(self) -> Iterator[None]:
        """Let server and load share the cores of both."""
        with self._on(self.server | self.load):
            yield

    @contextlib.contextmanager
    def _on(self, cores: frozenset[int]) -> Iterator[None]:
        if sys.platform != "linux":
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)

    def __str__(self) -> str:
        if not self.server:
            cores = "processes not pinned to cores"
        elif self.server == self.load:
            cores = f"server and load share core {min(self.server)}, the only one"
        else:
            cores = f"server on core {min(self.server)}, load on core {min(self.load)}"
        return (
            f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {cores}, "
            f"{_load()}"
        )


def _load() -> str:
    """Describe what else the machine does."""
    minute = os.getloadavg()[0]
    return f"load average {minute:.1f} at the start"


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that a process has used.

    `/proc/PID/stat` has steps of 10 ms, the CPU clock of the process nanoseconds, from the same
    accounting. Its number is that of `clock_getcpuclockid`, which Python lacks.

    Raises:
        NotMeasuredError: not on Linux.
    """
    if sys.platform != "linux":
        raise NotMeasuredError("no CPU clock of other processes")
    return time.clock_gettime((~pid << 3) | 2)


def memory_bytes(pid: int, field: str = "VmRSS") -> int:
    """Return the resident memory of a process, or with `VmHWM` its peak.

    Raises:
        NotMeasuredError: not on Linux.
    """
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        raise NotMeasuredError("no /proc")
    [line] = [line for line in status.read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


def find_tool(name: str) -> str:
    """Return the path of a program.

    Raises:
        NotMeasuredError: it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise NotMeasuredError(f"no {name}")
    return path
