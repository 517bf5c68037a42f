"""The address of a server, as commands are told it."""

from __future__ import annotations

import click

from stagecast.config import split_address


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
