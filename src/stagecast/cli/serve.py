"""`stagecast serve`: run the server until a signal stops it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import Any

import click

from stagecast.app import App
from stagecast.cli.params import DEFAULTS, FILE, check_listen_address, examples, setting
from stagecast.cli.serve_options import (
    auth_options,
    limit_options,
    origins_option,
    retention_options,
    root_path_option,
)
from stagecast.config import Config, socket_path
from stagecast.errors import StartError
from stagecast.listening import check_ports
from stagecast.runtime.descriptors import fit_connections
from stagecast.runtime.event_loop import run
from stagecast.runtime.logs import log_to_stderr
from stagecast.runtime.signals import ignore_stop_signals, on_stop_signals, unless_stopped
from stagecast.runtime.stdio import announce
from stagecast.supervisor.supervisor import supervise


@click.command(epilog=examples("serve --db walk.db", "serve --grpc 127.0.0.1:0 --http 127.0.0.1:0"))
@setting(
    "--db",
    type=FILE,
    default=DEFAULTS.db,
    show_default=True,
    help="SQLite file; created if it does not exist.",
)
@setting(
    "--grpc",
    metavar="ADDRESS",
    callback=check_listen_address,
    default=DEFAULTS.grpc,
    show_default=True,
    help="Address for gRPC: HOST:PORT (port 0: any free port) or unix:PATH.",
)
@setting(
    "--http",
    metavar="ADDRESS",
    callback=check_listen_address,
    default=DEFAULTS.http,
    show_default=True,
    help="Address for the REST paths: HOST:PORT (port 0: any free port) or unix:PATH.",
)
@root_path_option
@origins_option
@retention_options
@limit_options
@setting(
    "--processes",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of server processes on the same file and ports; a supervisor replaces those that "
    "die. More than 1 needs Linux (SO_REUSEPORT) and HOST:PORT addresses.",
)
@auth_options
def serve(*, processes: int, **settings: Any) -> None:  # noqa: ANN401 - fields of Config
    """Serve gRPC and REST from one SQLite file.

    When ready, prints one line to stdout: `stagecast ready grpc=ADDRESS http=ADDRESS`. Logs go to
    stderr. Output that is not read does not block the server.

    SIGTERM, SIGINT and SIGHUP stop it: watches end with a request to reconnect, and calls have the
    time of --drain to finish.

    Exit code: 0 after a signal, 1 if the server cannot run.
    """
    config = Config(**settings)
    if processes > 1 and sys.platform != "linux":
        raise click.UsageError(
            "--processes above 1 needs Linux, where SO_REUSEPORT spreads the connections"
        )
    if processes > 1 and (socket_path(config.grpc) or socket_path(config.http)):
        raise click.UsageError(
            "--processes above 1 needs HOST:PORT addresses: unix sockets cannot be shared"
        )
    try:
        if processes == 1:
            check_ports(config)
            log_to_stderr()
            _run(fit_connections(config))
        elif not supervise(config, processes):
            raise click.exceptions.Exit(1)
    except StartError as error:
        raise click.ClickException(str(error)) from error


def _run(config: Config) -> None:
    try:
        run(_serve(config))
    finally:
        ignore_stop_signals()


async def _serve(config: Config) -> None:
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    async with contextlib.AsyncExitStack() as stack:
        app = await unless_stopped(stop, stack.enter_async_context(App(config)))
        if app is not None:
            announce(f"stagecast ready grpc={app.grpc_address} http={app.http_address}")
            await stop.wait()
        logging.getLogger(__name__).info("received a stop signal")
