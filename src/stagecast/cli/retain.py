"""What is kept and for how long, as options of `stagecast serve`."""

from __future__ import annotations

import click

from stagecast.cli.ages import check_age
from stagecast.cli.options import setting, together

retention_options = together(
    setting(
        "--retain-history",
        "retain_history_s",
        metavar="AGE",
        callback=check_age,
        help="Let go of the history of a batch, but its last transition, so long after it has "
        "ended: 30d, or with s, m, h or w for seconds, minutes, hours or weeks; less than "
        "ten minutes count as ten. What is open keeps everything.  [default: keep for ever]",
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
        callback=check_age,
        help="Delete a batch, as DeleteBatch does, so long after it has ended: 90d; units as "
        "above.  [default: keep for ever]",
    ),
)
