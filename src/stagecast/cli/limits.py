"""Limits that operators set, as options of `stagecast serve`; each process keeps to them itself."""

from __future__ import annotations

import click

from stagecast.cli.options import DEFAULTS, Decorator, Seconds, setting, together

# Each by the name of its field.
_COUNTS = {
    "max_watches": "How many watches may be open at once, in all.",
    "max_watches_per_caller": "How many of them one key, or an address without one, may have open.",
    "max_waiting_calls": "How many other calls may wait for the store at once.",
    "max_connections": "How many connections may be open at once, of gRPC and of HTTP each.",
}
_SECONDS = {
    "wait_timeout": ("wait_s", "Answer WaitBatch after so long if the call does not say."),
    "watch_life": ("watch_life_s", "End a watch after so long, give or take a tenth."),
    "request_timeout": (
        "request_s",
        "Give up a request that has not arrived, or the store has not answered, after so long.",
    ),
    "slow_reader": ("slow_reader_s", "Give up a client that took no message for so long."),
    "keepalive": ("keepalive_s", "Ask a gRPC connection that was silent for so long if it lives."),
    "http_idle": ("http_idle_s", "Close a connection without a request or call for so long."),
    "drain": ("drain_s", "Give calls under way so long to finish when the server stops."),
}

_MAX_S = 86_400  # gRPC counts milliseconds in 31 bits


def _count(field: str, text: str) -> Decorator:
    return setting(
        "--" + field.replace("_", "-"),
        metavar="N",
        type=click.IntRange(min=1),
        default=getattr(DEFAULTS, field),
        show_default=True,
        help=text,
    )


def _seconds(name: str, field: str, text: str) -> Decorator:
    return setting(
        "--" + name.replace("_", "-"),
        field,
        metavar="SECONDS",
        type=Seconds(min=0, min_open=True, max=_MAX_S),
        default=getattr(DEFAULTS, field),
        show_default=True,
        help=text,
    )


limit_options = together(
    *(_count(field, text) for field, text in _COUNTS.items()),
    *(_seconds(name, field, text) for name, (field, text) in _SECONDS.items()),
)
