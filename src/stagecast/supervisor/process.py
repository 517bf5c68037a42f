"""One of several server processes, under a supervisor.

A pipe is all that binds the two: the process tells over it that it is ready, or why it is not, then
that its event loop still turns; and finds out by its end that the supervisor is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection

from stagecast.app import App
from stagecast.config import Config
from stagecast.errors import StartError
from stagecast.runtime.event_loop import run
from stagecast.runtime.logs import log_to_stderr
from stagecast.runtime.signals import ignore_stop_signals, stop_signals

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """What a process tells when it is ready: where it listens."""

    grpc: str
    http: str


def serve_under(supervisor: Connection, config: Config) -> None:
    """Serve until told to stop, or until the supervisor is gone; the exit code is 0 then."""
    # Ctrl-C, and the end of a terminal, reach all its processes; the supervisor decides what comes
    # of it.
    held_back = stop_signals()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    log_to_stderr(name_process=True)
    try:
        run(_serve(supervisor, config, held_back))
    except StartError as error:
        _tell(supervisor, error)
        sys.exit(1)
    finally:
        ignore_stop_signals()


async def _serve(
    supervisor: Connection, config: Config, held_back: tuple[signal.Signals, ...]
) -> None:
    stop = asyncio.Event()
    _on_end(supervisor, stop)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, held_back)
    async with App(config) as app:
        _tell(supervisor, Ready(grpc=app.grpc_address, http=app.http_address))
        beating = asyncio.create_task(_send_heartbeats(supervisor, config.process_heartbeat_s))
        await stop.wait()
        _log.info("stopping")
    beating.cancel()  # only now: to drain is not to hang


async def _send_heartbeats(supervisor: Connection, every_s: float) -> None:
    # A supervisor that is stopped reads nothing; what does not fit into the pipe is not missed.
    os.set_blocking(supervisor.fileno(), False)
    while True:
        await asyncio.sleep(every_s)
        _tell(supervisor, None)


def _on_end(supervisor: Connection, stop: asyncio.Event) -> None:
    """Stop when the pipe has ended; nothing ever comes through it."""
    loop = asyncio.get_running_loop()

    def on_end() -> None:
        loop.remove_reader(supervisor.fileno())
        _log.warning("the supervisor is gone")
        stop.set()

    loop.add_reader(supervisor.fileno(), on_end)


def _tell(supervisor: Connection, news: Ready | StartError | None) -> None:
    with contextlib.suppress(OSError):  # the supervisor is gone, as the end of the pipe tells
        supervisor.send(news)
