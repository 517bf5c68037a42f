"""The signals that end a program: from whoever runs it, or from the terminal that it is on.

SIGHUP comes when the terminal is closed. Where it is ignored from the start, as `nohup` has it, it
stays ignored.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

T = TypeVar("T")


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end a program, beside SIGINT."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return (signal.SIGTERM,)
    return signal.SIGTERM, signal.SIGHUP


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that tell a server to stop."""
    return *ending_signals(), signal.SIGINT


def on_stop_signals(stop: Callable[[], object]) -> None:
    """Call something on the running loop for each signal that tells a server to stop."""
    for number in stop_signals():
        asyncio.get_running_loop().add_signal_handler(number, stop)


def ignore_stop_signals() -> None:
    """Let a program that is about to end do so as it was to, whatever it is told from now on."""
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)


async def ended_by_signals(main: Coroutine[Any, Any, T]) -> T:
    """Run a command, and cancel it at the first signal, so that it leaves nothing behind.

    Raises:
        click.exceptions.Exit: there was a signal; the exit code is what shells say of it.
    """
    told: list[int] = []
    command = asyncio.current_task()

    def end(number: int) -> None:
        if command and not told:  # once more would cancel what it does to end well
            told.append(number)
            command.cancel()

    for number in ending_signals():
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return await main
    except asyncio.CancelledError:
        if told:
            raise click.exceptions.Exit(128 + told[0]) from None
        raise
