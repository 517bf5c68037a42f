"""What is kept and for how long, as options of `stagecast serve`."""

from __future__ import annotations

import click

from stagecast.background.retention import MIN_RETENTION_S
from stagecast.cli.durations import check_duration
from stagecast.cli.options import setting, together


def _check_age(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> float | None:
    """Return how many seconds an age has, if one was given.

    Raises:
        click.BadParameter: it is none, or less than what is kept whatever is asked for.
    """
    seconds = check_duration(context, parameter, value)
    if seconds is not None and seconds < MIN_RETENTION_S:
        raise click.BadParameter(
            f"{value!r} is less than ten minutes, for which every batch that has ended is kept"
        )
    return seconds


retention_options = together(
    setting(
        "--retain-history",
        "retain_history_s",
        metavar="AGE",
        callback=_check_age,
        help="Let go of the history of a batch, but its last transition, so long after it has "
        "ended: 30d, or with s, m, h or w for seconds, minutes, hours or weeks; no less than "
        "ten minutes. What is open keeps everything.  [default: keep for ever]",
    ),
    setting(
        "--retain-transitions",
        metavar="N",
        type=click.IntRange(min=1),
        help="Keep only the last N transitions of a batch that has ended.  [default: keep all]",
    ),
    setting(
        "--retain-batches",
        "retain_batches_s",
        metavar="AGE",
        callback=_check_age,
        help="Delete a batch, as DeleteBatch does, so long after it has ended: 90d; units as "
        "above.  [default: keep for ever]",
    ),
)
