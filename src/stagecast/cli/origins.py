"""Who may ask over HTTP from where, as options of `stagecast serve`: pages, and proxies."""

from __future__ import annotations

import click

from stagecast.cli.options import setting
from stagecast.config import check_origin, check_root_path


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


def _check_root_path(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return what a proxy has before all paths.

    Raises:
        click.BadParameter: it is no such path.
    """
    try:
        return check_root_path(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


root_path_option = setting(
    "--http-root-path",
    metavar="PATH",
    default="",
    callback=_check_root_path,
    help="What a proxy in front of the REST paths has before them, such as /stagecast; they are "
    "served with it and without.",
)

origins_option = setting(
    "--cors-origin",
    "cors_origins",
    metavar="ORIGIN",
    multiple=True,
    callback=_check,
    help="Let browsers show the REST answers to pages of this origin, such as "
    "http://localhost:3000; may be given more than once, in the environment with commas or blanks "
    "between them.",
)
