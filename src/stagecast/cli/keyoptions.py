"""What `stagecast keys create` is told, checked."""

from __future__ import annotations

import click

from stagecast.cli.ages import seconds_of
from stagecast.escaping import is_printable, quote
from stagecast.model import SECOND_US, Scope, canonical_uuid

_MOST_S = seconds_of("100y", units="y")
_MOST_NAME = 100
_MOST_DATASETS = 1_000


def check_scopes(
    context: click.Context, parameter: click.Parameter, value: str
) -> frozenset[Scope]:
    """Return scopes that were given with commas between them."""
    try:
        return frozenset(Scope(word.strip()) for word in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{quote(value)} is not some of read,report,control") from error


def check_datasets(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> frozenset[str] | None:
    """Return datasets; `None`, which is all, if none was given."""
    if len(value) > _MOST_DATASETS:
        raise click.BadParameter(f"at most {_MOST_DATASETS} can be named")
    for given in value:
        if canonical_uuid(given) is None:
            raise click.BadParameter(f"{quote(given)} is no UUID")
    return frozenset(given.lower() for given in value) or None


def check_span(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Return a time to live in microseconds."""
    if value is None:
        return None
    seconds = seconds_of(value, units="hdwy")
    if not 0 < seconds <= _MOST_S:
        raise click.BadParameter(f"{quote(value)} is not a time such as 12h, 90d, 4w or 1y")
    return seconds * SECOND_US


def check_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return what a key is for."""
    if len(value) > _MOST_NAME or not is_printable(value):
        raise click.BadParameter(f"must be at most {_MOST_NAME} printable characters")
    return value
