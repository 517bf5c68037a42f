"""What `stagecast keys create` is told, checked."""

from __future__ import annotations

import click

from stagecast.cli.durations import parse_duration
from stagecast.escaping import is_printable, quote
from stagecast.model import SECOND_US, Scope, canonical_uuid

_MAX_LIFETIME_S = parse_duration("100y", units="y")
_MAX_NAME = 100
_MAX_DATASETS = 1_000


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
    if len(value) > _MAX_DATASETS:
        raise click.BadParameter(f"at most {_MAX_DATASETS} can be named")
    for dataset_id in value:
        if canonical_uuid(dataset_id) is None:
            raise click.BadParameter(f"{quote(dataset_id)} is no UUID")
    return frozenset(dataset_id.lower() for dataset_id in value) or None


def check_span(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Return a time to live in microseconds."""
    if value is None:
        return None
    seconds = parse_duration(value, units="hdwy")
    if not 0 < seconds <= _MAX_LIFETIME_S:
        raise click.BadParameter(f"{quote(value)} is not a time such as 12h, 90d, 4w or 1y")
    return seconds * SECOND_US


def check_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return what a key is for."""
    if len(value) > _MAX_NAME or not is_printable(value):
        raise click.BadParameter(f"must be at most {_MAX_NAME} printable characters")
    return value
