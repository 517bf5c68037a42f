"""What is kept and for how long, as options of `stagecast serve`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from stagecast.cli.ages import check_age

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--retain-history",
        "retain_history_s",
        envvar="STAGECAST_RETAIN_HISTORY",
        metavar="AGE",
        callback=check_age,
        show_envvar=True,
        help="Let go of the history of a batch, but its last transition, so long after it has "
        "ended: 30d, or with s, m, h or w for seconds, minutes, hours or weeks; at least ten "
        "minutes. What is open keeps everything.  [default: keep for ever]",
    ),
    click.option(
        "--retain-transitions",
        envvar="STAGECAST_RETAIN_TRANSITIONS",
        metavar="N",
        type=click.IntRange(min=1),
        show_envvar=True,
        help="Keep only the last N transitions of a batch that has ended.  [default: keep all]",
    ),
    click.option(
        "--retain-batches",
        "retain_batches_s",
        envvar="STAGECAST_RETAIN_BATCHES",
        metavar="AGE",
        callback=check_age,
        show_envvar=True,
        help="Delete a batch, as DeleteBatch does, so long after it has ended: 90d; units as "
        "above.  [default: keep for ever]",
    ),
)


def retention_options(command: Command) -> Command:
    """Give a command the options, in their order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
