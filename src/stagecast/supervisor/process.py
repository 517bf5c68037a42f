"""One of several server processes, under a supervisor.

They share a pipe: the process sends that it is ready, or why not, and then heartbeats of its event
loop. The end of the pipe tells it that the supervisor is gone.
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
from stagecast.runtime.signals import ignore_stop_signals, stop_signals, unless_stopped

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """The message of a process that is ready: its addresses."""

    grpc: str
    http: str


def serve_under(supervisor: Connection, config: Config, log_level: int) -> None:
    """Serve until a stop signal, or until the supervisor is gone; then exit with 0."""
    # Ctrl-C and a closed terminal signal all processes; only the supervisor handles them.
    blocked_signals = stop_signals()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    log_to_stderr(level=log_level, name_process=True)
    try:
        run(_serve(supervisor, config, blocked_signals))
    except StartError as error:
        _send(supervisor, error)
        sys.exit(1)
    finally:
        ignore_stop_signals()


async def _serve(
    supervisor: Connection, config: Config, blocked_signals: tuple[signal.Signals, ...]
) -> None:
    stop = asyncio.Event()
    _on_end(supervisor, stop)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked_signals)
    async with contextlib.AsyncExitStack() as stack:
        app = await unless_stopped(stop, stack.enter_async_context(App(config)))
        if app is None:
            return
        _send(supervisor, Ready(grpc=app.grpc_address, http=app.http_address))
        heartbeats = asyncio.create_task(_send_heartbeats(supervisor, config.process_heartbeat_s))
        await stop.wait()
        _log.info("stopping")
    heartbeats.cancel()  # after draining, which must not count as hanging


async def _send_heartbeats(supervisor: Connection, every_s: float) -> None:
    # A stopped supervisor reads nothing; heartbeats that do not fit into the pipe are dropped.
    os.set_blocking(supervisor.fileno(), False)
    while True:
        await asyncio.sleep(every_s)
        _send(supervisor, None)


def _on_end(supervisor: Connection, stop: asyncio.Event) -> None:
    """Stop at the end of the pipe; the supervisor never sends anything."""
    loop = asyncio.get_running_loop()

    def on_end() -> None:
        loop.remove_reader(supervisor.fileno())
        _log.warning("the supervisor is gone")
        stop.set()

    loop.add_reader(supervisor.fileno(), on_end)


def _send(supervisor: Connection, message: Ready | StartError | None) -> None:
    with contextlib.suppress(OSError):  # the supervisor is gone; see `_on_end`
        supervisor.send(message)
