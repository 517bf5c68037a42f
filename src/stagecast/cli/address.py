"""The address of a server as an option of commands."""

from __future__ import annotations

import click

from stagecast.config import Config, split_address


def check_address(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Return an address to listen on or to connect to, if one was given.

    Raises:
        click.BadParameter: it is not `HOST:PORT`.
    """
    if value is not None:
        try:
            split_address(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return value


server_option = click.option(
    "--grpc",
    envvar="STAGECAST_GRPC",
    metavar="HOST:PORT",
    callback=check_address,
    default=Config().grpc,
    show_default=True,
    show_envvar=True,
    help="The server.",
)
