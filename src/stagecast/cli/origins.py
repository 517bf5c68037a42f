"""The origins whose pages may ask, as an option of `stagecast serve`."""

from __future__ import annotations

import click

from stagecast.cli.options import setting
from stagecast.config import check_origin


def _check(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the origins.

    Raises:
        click.BadParameter: one of them is none.
    """
    try:
        return tuple(check_origin(origin) for origin in value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


origins_option = setting(
    "--cors-origin",
    "cors_origins",
    envvar="STAGECAST_CORS_ORIGINS",
    metavar="ORIGIN",
    multiple=True,
    callback=_check,
    help="Let browsers show the REST answers to pages of this origin, such as "
    "http://localhost:3000; may be given more than once.",
)
