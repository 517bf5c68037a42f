"""The address of a server, as commands are told it: to listen on, or to call."""

from __future__ import annotations

import click

from stagecast.config import check_address, split_address


def check_listening(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return an address to listen on.

    Raises:
        click.BadParameter: it is neither `HOST:PORT` nor `unix:PATH`.
    """
    try:
        return check_address(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def check_called(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Return an address to call, if one was given.

    Raises:
        click.BadParameter: it is neither `HOST:PORT` nor `unix:PATH`.
    """
    try:
        return None if value is None else check_address(value, to_call=True)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def check_called_by_http(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Return an address to call with a URL, if one was given.

    Raises:
        click.BadParameter: it is not `HOST:PORT`; no URL leads to a unix socket.
    """
    address = check_called(context, parameter, value)
    if address is not None:
        try:
            split_address(address)
        except ValueError as error:
            raise click.BadParameter(f"no URL leads to {address}; give HOST:PORT") from error
    return address
