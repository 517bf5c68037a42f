"""Limits that operators set, as options of `stagecast serve`; each process keeps to them itself."""

from __future__ import annotations

import click

from stagecast.cli.options import DEFAULTS, setting, together

# Each by the name of its field.
_MOST = {
    "max_watches": "How many watches may be open at once, in all.",
    "max_watches_per_caller": "How many of them one key, or an address without one, may have open.",
    "max_waiting_calls": "How many other calls may wait for the store at once.",
    "max_connections": "How many connections may be open at once, of gRPC and of HTTP each.",
}

limit_options = together(
    *(
        setting(
            "--" + field.replace("_", "-"),
            metavar="N",
            type=click.IntRange(min=1),
            default=getattr(DEFAULTS, field),
            show_default=True,
            help=text,
        )
        for field, text in _MOST.items()
    ),
    setting(
        "--slow-reader",
        "slow_reader_s",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        default=DEFAULTS.slow_reader_s,
        show_default=True,
        help="End a stream whose client has not taken a message for so long.",
    ),
)
