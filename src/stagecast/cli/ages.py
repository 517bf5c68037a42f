"""Ages, such as `30d`, as options take them."""

from __future__ import annotations

import re

import click

_AGE = re.compile("([0-9]{1,6})([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def check_age(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> float | None:
    """Return how many seconds an age has, if one was given.

    Raises:
        click.BadParameter: it is none, or has no length.
    """
    if value is None:
        return None
    match = _AGE.fullmatch(value)
    if match is None or not int(match[1]):
        raise click.BadParameter(f"{value!r} is no age such as 30d, 12h, 90m or 2w")
    return float(int(match[1]) * _SECONDS[match[2]])
