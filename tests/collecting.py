"""A plugin of pytest that lets no test module ask for the time, or for chance, as it is imported.

What comes of that is another in each process, and may be over when its test runs at last.
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
    """Watch who asks; to be used with `--collect-only`, since nothing is put back."""
    for module, names in _NAMES.items():
        for name in names:
            setattr(module, name, _watched(f"{module.__name__}.{name}", getattr(module, name)))


def _watched(name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*value: Any, **named: Any) -> Any:
        if asker := _test_module():
            raise RuntimeError(f"{asker} asks for {name} when tests are collected")
        return ask(*value, **named)

    return watched


def _test_module() -> str | None:
    """Return the module of the tests that is being imported and asks, if it is one."""
    frame = sys._getframe(2).f_back
    while frame:
        module = frame.f_globals.get("__name__", "")
        if "importlib" in module:
            return None
        if module.startswith("tests.") and module != __name__:
            return str(module)
        frame = frame.f_back
    return None
