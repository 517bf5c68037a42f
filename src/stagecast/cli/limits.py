"""Limits that operators set, as options of `stagecast serve`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from stagecast.config import Config

_DEFAULTS = Config()

# Each by the name of its field.
_HELP = {
    "max_watches": "How many watches may be open at once, in all.",
    "max_watches_per_caller": "How many of them one address may have open.",
    "max_waiting_calls": "How many other calls may wait for the store at once.",
    "max_connections": "How many connections may be open at once, of gRPC and of HTTP each.",
}


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; each process keeps to them by itself."""
    command = click.option(
        "--slow-reader",
        "slow_reader_s",
        envvar="STAGECAST_SLOW_READER",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        default=_DEFAULTS.slow_reader_s,
        show_default=True,
        show_envvar=True,
        help="End a stream whose client has not taken a message for so long.",
    )(command)
    for field, text in reversed(_HELP.items()):
        command = _at_most(field, text)(command)
    return command


def _at_most(field: str, text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--" + field.replace("_", "-"),
        envvar="STAGECAST_" + field.upper(),
        metavar="N",
        type=click.IntRange(min=1),
        default=getattr(_DEFAULTS, field),
        show_default=True,
        show_envvar=True,
        help=text,
    )
