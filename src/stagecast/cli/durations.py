"""Ages, such as `30d`, as options take them."""

from __future__ import annotations

import re

import click

from stagecast.escaping import quote

_DURATION = re.compile("([0-9]{1,6})([a-z])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 31_536_000}


def check_duration(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> float | None:
    """Return how many seconds an age has, if one was given.

    Raises:
        click.BadParameter: it is none, or has no length.
    """
    if value is None:
        return None
    seconds = parse_duration(value, units="smhdw")
    if not seconds:
        raise click.BadParameter(f"{quote(value)} is no age such as 30d, 12h, 90m or 2w")
    return float(seconds)


def parse_duration(age: str, *, units: str) -> int:
    """Return how many seconds an age has, 0 if it is none in one of these units."""
    match = _DURATION.fullmatch(age)
    if match is None or match[2] not in units:
        return 0
    return int(match[1]) * _SECONDS[match[2]]
