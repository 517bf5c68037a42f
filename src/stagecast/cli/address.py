"""The address of a server as an option of commands."""

from __future__ import annotations

import click


def check_address(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Return an address to connect to, if one was given.

    Raises:
        click.BadParameter: it is not `HOST:PORT`.
    """
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal() and 0 < int(port) < 65_536):
        raise click.BadParameter(f"{value!r} is not an address such as 127.0.0.1:50051")
    return value
