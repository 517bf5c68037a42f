"""Who may reach and call a server, as options of `stagecast serve`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from stagecast.config import Config

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(dir_okay=False, path_type=Path)


def access_options(command: F) -> F:
    """Add them to a command; each is a field of `Config`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: tuple[Callable[[F], F], ...] = (
    click.option(
        "--jwt-key",
        envvar="STAGECAST_JWT_KEY",
        metavar="FILE",
        type=_FILE,
        show_envvar=True,
        help="Also take tokens (JWT) that are signed with this: a secret of 32 bytes or more "
        "(HS256), or a public key in PEM, of RSA (RS256) or P-256 (ES256).",
    ),
    click.option(
        "--jwt-audience",
        envvar="STAGECAST_JWT_AUDIENCE",
        metavar="TEXT",
        default=Config().jwt_audience,
        show_default=True,
        show_envvar=True,
        help="What the claim 'aud' of tokens has to name.",
    ),
    click.option(
        "--tls-cert",
        envvar="STAGECAST_TLS_CERT",
        metavar="FILE",
        type=_FILE,
        show_envvar=True,
        help="Serve gRPC and HTTP with TLS: the certificate, and those that lead to its root, in "
        "PEM.",
    ),
    click.option(
        "--tls-key",
        envvar="STAGECAST_TLS_KEY",
        metavar="FILE",
        type=_FILE,
        show_envvar=True,
        help="The private key of the certificate, in PEM, without a password.",
    ),
    click.option(
        "--tls-client-ca",
        envvar="STAGECAST_TLS_CLIENT_CA",
        metavar="FILE",
        type=_FILE,
        show_envvar=True,
        help="Let only clients connect that have a certificate signed by one of these, in PEM. "
        "What they may do is still a matter of keys.",
    ),
    click.option(
        "--insecure",
        envvar="STAGECAST_INSECURE",
        is_flag=True,
        show_envvar=True,
        help="Serve an address that others can reach although there is no key: whoever reaches it "
        "may do everything, until the first key is made.",
    ),
)
