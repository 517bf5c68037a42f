"""The signals that end a program.

SIGHUP arrives when the terminal is closed. If it is ignored from the start, as with `nohup`, it
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
    """Return the signals that end a program, except SIGINT."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return (signal.SIGTERM,)
    return signal.SIGTERM, signal.SIGHUP


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that stop a server."""
    return *ending_signals(), signal.SIGINT


def on_stop_signals(stop: Callable[[], object]) -> None:
    """Call `stop` on the running loop for each signal that stops a server."""
    for number in stop_signals():
        asyncio.get_running_loop().add_signal_handler(number, stop)


def ignore_stop_signals() -> None:
    """Ignore further signals, so that a program that is ending does so undisturbed."""
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of work, or `None` if it was cancelled since the event was set."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if stop.is_set():
        working.cancel()  # without effect if it is done
        await asyncio.wait((working,))
    return None if working.cancelled() else working.result()


async def ended_by_signals(main: Coroutine[Any, Any, T]) -> T:
    """Run a command, and cancel it at the first signal, to let it clean up.

    A command that is blocked on its stdout is not cancelled, as it may never continue, but ended
    at once.

    Raises:
        click.exceptions.Exit: there was a signal; the exit code is 128 plus its number.
    """
    received: list[int] = []
    command = asyncio.current_task()
    loop = asyncio.get_running_loop()

    def end(number: int, _frame: FrameType | None) -> None:
        first = not received
        received.append(number)
        if is_stuck():
            raise click.exceptions.Exit(128 + received[0])
        if command and first:  # a second one would cancel its cleanup
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
    """Call it at once for each signal that ends a program; a handler of the loop would wait."""
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
            if signal.getsignal(number) == handler:  # unless a server has replaced it
                signal.signal(number, old)
