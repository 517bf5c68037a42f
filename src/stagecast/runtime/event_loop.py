"""The event loop of every command."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from stagecast.errors import StartError
from stagecast.runtime.descriptors import take_descriptors
from stagecast.runtime.exits import CommandFailed
from stagecast.runtime.signals import ended_by_signals

T = TypeVar("T")

# A thousand watches that are woken together make ten thousand objects, which soon die: to look for
# cycles among them every 700 took a quarter of the CPU of a delivery.
_OBJECTS = 20_000

_DESCRIPTORS = 32  # for the loop, grpc and TLS, or for the store


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, on CPython with uvloop, which needs a fifth less CPU per call.

    Raises:
        CommandFailed: the limit of open files is so low that grpc would abort.
        click.exceptions.Exit: a signal ended it.
    """
    try:
        take_descriptors("the command", _DESCRIPTORS)
    except StartError as error:
        main.close()
        raise CommandFailed(str(error)) from error
    gc.set_threshold(_OBJECTS, 20, 20)
    if sys.implementation.name != "cpython":
        return asyncio.run(ended_by_signals(main))
    import uvloop

    return uvloop.run(ended_by_signals(main))
