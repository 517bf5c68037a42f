"""`stagecast serve`: run the server until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import click

from stagecast.app import App
from stagecast.cli.params import DEFAULTS, FILE, check_listening, examples, setting
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
from stagecast.runtime.signals import ignore_stop_signals, on_stop_signals
from stagecast.runtime.stdio import announce
from stagecast.supervisor.supervisor import supervise


@click.command(epilog=examples("serve --db walk.db", "serve --grpc 127.0.0.1:0 --http 127.0.0.1:0"))
@setting(
    "--db",
    type=FILE,
    default=DEFAULTS.db,
    show_default=True,
    help="The SQLite file; it is created if it is not there.",
)
@setting(
    "--grpc",
    metavar="ADDRESS",
    callback=check_listening,
    default=DEFAULTS.grpc,
    show_default=True,
    help="Where to serve gRPC: HOST:PORT, where port 0 picks a free one, or unix:PATH.",
)
@setting(
    "--http",
    metavar="ADDRESS",
    callback=check_listening,
    default=DEFAULTS.http,
    show_default=True,
    help="Where to serve the REST paths, in the same way.",
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
    help="How many processes serve, on the same file and ports; one more replaces those that die. "
    "More than 1 needs Linux, where SO_REUSEPORT spreads connections over them, and no unix:PATH.",
)
@auth_options
def serve(*, processes: int, **settings: Any) -> None:  # noqa: ANN401 - fields of Config
    """Serve gRPC and REST from one SQLite file.

    Prints one line to stdout when it is ready, `stagecast ready grpc=ADDRESS http=ADDRESS`.
    Logs go to stderr. It serves all the same if nobody takes them. SIGTERM, SIGINT and SIGHUP end
    it: watches are told to reconnect, calls under way get five seconds to finish, the exit code
    is 0.
    """
    config = Config(**settings)
    if processes > 1 and sys.platform != "linux":
        raise click.UsageError(
            "--processes above 1 needs Linux, where SO_REUSEPORT spreads connections over them"
        )
    if processes > 1 and (socket_path(config.grpc) or socket_path(config.http)):
        raise click.UsageError(
            "--processes above 1 needs HOST:PORT: SO_REUSEPORT spreads no unix sockets"
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
    async with App(config) as app:
        announce(f"stagecast ready grpc={app.grpc_address} http={app.http_address}")
        await stop.wait()
        logging.getLogger(__name__).info("told to stop")
