"""The signals that end a program: from whoever runs it, or from the terminal that it is on.

SIGHUP comes when the terminal is closed. Where it is ignored from the start, as `nohup` has it, it
stays ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

import click

from stagecast.runtime.stdio import is_stuck

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


@contextlib.contextmanager
def exit_on_signals() -> Iterator[None]:
    """End a command without a loop at the first signal, so that it leaves nothing behind.

    What the block does hears of it as soon as it runs Python code.

    Raises:
        click.exceptions.Exit: there was a signal; the exit code is what shells say of it.
    """
    received: list[int] = []

    def end(number: int, _frame: object) -> None:
        if not received:  # once more would end what it does to end well
            received.append(number)
            raise SystemExit(128 + number)

    with _handled_by(end):
        try:
            yield
        finally:
            if received:  # whatever has become of the exception on its way
                raise click.exceptions.Exit(128 + received[0])


async def ended_by_signals(main: Coroutine[Any, Any, T]) -> T:
    """Run a command, and cancel it at the first signal, so that it leaves nothing behind.

    One that waits until its stdout takes more is not cancelled, as that may never happen, but ended
    where it is.

    Raises:
        click.exceptions.Exit: there was a signal; the exit code is what shells say of it.
    """
    received: list[int] = []
    command = asyncio.current_task()
    loop = asyncio.get_running_loop()

    def end(number: int, _frame: FrameType | None) -> None:
        first = not received
        received.append(number)
        if is_stuck():
            raise click.exceptions.Exit(128 + received[0])
        if command and first:  # once more would cancel what it does to end well
            command.cancel()
            loop.call_soon_threadsafe(lambda: None)  # wakes it

    with _handled_by(end):
        try:
            return await main
        except asyncio.CancelledError:
            if received:
                raise click.exceptions.Exit(128 + received[0]) from None
            raise


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call it for each signal that ends a program, wherever that is: a loop's own would wait."""
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            if signal.getsignal(number) == handler:  # a server has put its own in their place
                signal.signal(number, old)
