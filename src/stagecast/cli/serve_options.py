"""The options of `stagecast serve`: authentication, TLS, origins, limits and retention."""

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
        help="Also accept tokens (JWT) signed with this key: a secret of at least 32 bytes "
        "(HS256), or a PEM public key, RSA (RS256) or P-256 (ES256).",
    ),
    setting(
        "--jwt-audience",
        metavar="TEXT",
        default=DEFAULTS.jwt_audience,
        show_default=True,
        help="Required 'aud' claim of tokens.",
    ),
    setting(
        "--tls-cert",
        metavar="FILE",
        type=FILE,
        help="Serve gRPC and HTTP with TLS: certificate chain of the server (PEM).",
    ),
    setting(
        "--tls-key",
        metavar="FILE",
        type=FILE,
        help="Private key of --tls-cert (PEM, without a password).",
    ),
    setting(
        "--tls-client-ca",
        metavar="FILE",
        type=FILE,
        help="Require client certificates signed by one of these CAs (PEM). Keys are still needed.",
    ),
    setting(
        "--insecure",
        is_flag=True,
        help="Allow addresses that other machines can reach without any key: every caller may do "
        "everything, until the first key is created.",
    ),
)


def _check(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the origins.

    Raises:
        click.BadParameter: one of them is invalid.
    """
    try:
        return tuple(check_origin(origin) for origin in value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _check_root_path(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return the path prefix of a proxy.

    Raises:
        click.BadParameter: it is invalid.
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
    help="Path prefix of a proxy, such as /stagecast; the REST paths are served with and without "
    "it.",
)

origins_option = setting(
    "--cors-origin",
    "cors_origins",
    metavar="ORIGIN",
    multiple=True,
    callback=_check,
    help="Allow web pages of this origin, such as http://localhost:3000, to read the REST paths; "
    "can be repeated, in the environment separated by commas or blanks.",
)


# By the name of the field of `Config`.
_COUNTS = {
    "max_watches": "Maximum number of open watches.",
    "max_watches_per_caller": "Maximum number of open watches per key, or per address without one.",
    "max_waiting_calls": "Maximum number of other calls that wait for the store.",
    "max_connections": "Maximum number of open connections, for gRPC and HTTP each.",
}
_SECONDS = {
    "wait_timeout": ("wait_s", "Timeout of WaitBatch if the call sets none."),
    "watch_life": (
        "watch_life_s",
        "End a watch after this time, give or take 10 %; clients reconnect.",
    ),
    "request_timeout": (
        "request_s",
        "Timeout for a request to arrive, and then for the store to process it.",
    ),
    "slow_reader": ("slow_reader_s", "Drop a client that has read no message for this time."),
    "keepalive": ("keepalive_s", "Ping a gRPC connection that has been silent for this time."),
    "http_idle": ("http_idle_s", "Close a connection without requests for this time."),
    "drain": ("drain_s", "Time for running calls to finish when the server stops."),
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


def _check_retention(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> float | None:
    """Return the seconds of a retention time, or `None`.

    Raises:
        click.BadParameter: it is malformed, or below the minimum.
    """
    seconds = check_duration(context, parameter, value)
    if seconds is not None and seconds < MIN_RETENTION_S:
        raise click.BadParameter(f"{value!r} is less than the minimum of 10m")
    return seconds


retention_options = together(
    setting(
        "--retain-history",
        "retain_history_s",
        metavar="DURATION",
        callback=_check_retention,
        help="Delete the transitions of a batch, except the last, this time after its end, such as "
        "30d (units: s, m, h, d, w; at least 10m).  [default: never]",
    ),
    setting(
        "--retain-transitions",
        metavar="N",
        type=click.IntRange(min=1),
        help="Keep only the last N transitions of a batch that has ended.  [default: all]",
    ),
    setting(
        "--retain-batches",
        "retain_batches_s",
        metavar="DURATION",
        callback=_check_retention,
        help="Delete a batch, as DeleteBatch does, this time after its end, such as 90d (at least "
        "10m).  [default: never]",
    ),
)
