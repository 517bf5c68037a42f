"""The options of `stagecast serve`: who may call, from where, limits, and what is kept."""

from __future__ import annotations

import click

from stagecast.background.retention import MIN_RETENTION_S
from stagecast.cli.params import (
    DEFAULTS,
    FILE,
    Decorator,
    Seconds,
    check_duration,
    setting,
    together,
)
from stagecast.config import check_origin, check_root_path

auth_options = together(
    setting(
        "--jwt-key",
        metavar="FILE",
        type=FILE,
        help="Also take tokens (JWT) that are signed with this: a secret of 32 bytes or more "
        "(HS256), or a public key in PEM, of RSA (RS256) or P-256 (ES256).",
    ),
    setting(
        "--jwt-audience",
        metavar="TEXT",
        default=DEFAULTS.jwt_audience,
        show_default=True,
        help="What the claim 'aud' of tokens has to name.",
    ),
    setting(
        "--tls-cert",
        metavar="FILE",
        type=FILE,
        help="Serve gRPC and HTTP with TLS: the certificate, and those that lead to its root, in "
        "PEM.",
    ),
    setting(
        "--tls-key",
        metavar="FILE",
        type=FILE,
        help="The private key of the certificate, in PEM, without a password.",
    ),
    setting(
        "--tls-client-ca",
        metavar="FILE",
        type=FILE,
        help="Let only clients connect that have a certificate signed by one of these, in PEM. "
        "What they may do is still a matter of keys.",
    ),
    setting(
        "--insecure",
        is_flag=True,
        help="Serve an address that others can reach although there is no key: whoever reaches it "
        "may do everything, until the first key is made.",
    ),
)


def _check(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the origins.

    Raises:
        click.BadParameter: one of them is none.
    """
    try:
        return tuple(check_origin(origin) for origin in value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _check_root_path(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return what a proxy has before all paths.

    Raises:
        click.BadParameter: it is no such path.
    """
    try:
        return check_root_path(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


root_path_option = setting(
    "--http-root-path",
    metavar="PATH",
    default="",
    callback=_check_root_path,
    help="What a proxy in front of the REST paths has before them, such as /stagecast; they are "
    "served with it and without.",
)

origins_option = setting(
    "--cors-origin",
    "cors_origins",
    metavar="ORIGIN",
    multiple=True,
    callback=_check,
    help="Let browsers show the REST answers to pages of this origin, such as "
    "http://localhost:3000; may be given more than once, in the environment with commas or blanks "
    "between them.",
)


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
