"""A pytest plugin that forbids test modules to use the time or random numbers at import.

Such values differ between processes, and may be outdated when the test runs.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from types import ModuleType
from typing import Any

_NAMES: dict[ModuleType, tuple[str, ...]] = {
    os: ("urandom", "getpid"),
    random: ("random", "choice", "randint", "randbytes", "SystemRandom"),
    tempfile: ("mkdtemp", "mkstemp"),
    time: ("time", "time_ns", "monotonic"),
    uuid: ("uuid1", "uuid4"),
}


def pytest_configure() -> None:
    """Guard the functions; use it with `--collect-only`, since they are not restored."""
    for module, names in _NAMES.items():
        for name in names:
            setattr(module, name, _guarded(f"{module.__name__}.{name}", getattr(module, name)))


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if caller := _test_module():
            raise RuntimeError(f"{caller} calls {name} while tests are collected")
        return function(*args, **kwargs)

    return guarded


def _test_module() -> str | None:
    """Return the test module that makes the call while it is imported, if any."""
    frame = sys._getframe(2).f_back
    while frame:
        module = frame.f_globals.get("__name__", "")
        if "importlib" in module:
            return None
        if module.startswith("tests.") and module != __name__:
            return str(module)
        frame = frame.f_back
    return None
