"""The server of a client command, as options: address, credentials, TLS and timeout."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from stagecast.certificates import read_certificates, read_pair
from stagecast.cli.params import DEFAULTS, FILE, Seconds, check_server_address, setting, together
from stagecast.client import Stubs
from stagecast.errors import StartError
from stagecast.runtime.exits import CommandFailed

Command = Callable[..., None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """Credentials and TLS settings of a client command."""

    key: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    cert_key: Path | None = None

    @property
    def speaks_tls(self) -> bool:
        """Whether connections use TLS."""
        return bool(self.tls or self.ca or self.cert)

    @property
    def scheme(self) -> str:
        """The scheme of URLs of the server."""
        return "https" if self.speaks_tls else "http"

    def connect(self, address: str, *, timeout_s: float | None = None) -> Stubs:
        """Return a client whose calls time out after `timeout_s`.

        Raises:
            CommandFailed: a file cannot be used, or one of `cert` and `cert_key` is missing.
        """
        if (self.cert is None) != (self.cert_key is None):
            raise CommandFailed("--cert and --cert-key must be used together")
        try:
            return Stubs(
                address,
                key=self.key,
                tls=self.tls,
                ca=self.ca,
                cert=self.cert,
                cert_key=self.cert_key,
                timeout_s=timeout_s,
            )
        except ValueError as error:
            raise CommandFailed(str(error)) from error

    def arguments(self) -> dict[str, Any]:
        """Return arguments with which the public clients ignore the environment."""
        return {
            "key": self.key or "",
            "tls": self.tls,
            "ca": self.ca or "",
            "cert": self.cert or "",
            "cert_key": self.cert_key or "",
        }

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for HTTPS.

        Raises:
            OSError: a file cannot be used.
        """
        try:
            roots = b"".join(read_certificates(self.ca)).decode() if self.ca else None
            context = ssl.create_default_context(cadata=roots)
            if self.cert and self.cert_key:
                read_pair(self.cert, self.cert_key)
                context.load_cert_chain(self.cert, self.cert_key)
        except StartError as error:
            raise OSError(str(error)) from error
        return context


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The server of a client command, and the timeout of its calls."""

    address: str
    credentials: Credentials
    timeout_s: float

    def connect(self) -> Stubs:
        """Return a client.

        Raises:
            CommandFailed: a file cannot be used, or one of `cert` and `cert_key` is missing.
        """
        return self.credentials.connect(self.address, timeout_s=self.timeout_s)


def target_option(command: Command, *, timeout_s: float = 60.0) -> Command:
    """Add the options of a `Target`, which the command gets as `target`."""

    @functools.wraps(command)
    def with_target(*, grpc: str, credentials: Credentials, timeout: float, **others: Any) -> None:  # noqa: ANN401 - the command's own
        command(target=Target(address=grpc, credentials=credentials, timeout_s=timeout), **others)

    timeout_option = setting(
        "--timeout",
        metavar="SECONDS",
        type=Seconds(min=0, min_open=True),
        default=timeout_s,
        show_default=True,
        help="Give up if the server does not respond for this time.",
    )
    return _grpc_option(timeout_option(credentials_options(with_target)))


def credentials_options(command: Command) -> Command:
    """Add the options of `Credentials`, which the command gets as `credentials`."""
    names = Credentials.__dataclass_fields__.keys()

    @functools.wraps(command)
    def with_credentials(**options: Any) -> None:  # noqa: ANN401 - the command's own, and ours
        credentials = Credentials(**{name: options.pop(name) for name in names})
        command(credentials=credentials, **options)

    return _options(with_credentials)


def _check_key(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return a key; an error must not repeat it."""
    if value and not (value.isascii() and value.isprintable()):
        raise click.BadParameter(
            "invalid characters; a key has letters, digits and '_', a token also '-' and '.'"
        )
    return value or None


_grpc_option = setting(
    "--grpc",
    metavar="ADDRESS",
    callback=check_server_address,
    default=DEFAULTS.grpc,
    show_default=True,
    help="Server address: HOST:PORT or unix:PATH.",
)

_options = together(
    setting(
        "--key",
        metavar="KEY",
        callback=_check_key,
        help="API key or token. Other users may see the command line: prefer the environment.",
    ),
    setting(
        "--tls",
        is_flag=True,
        help="Use TLS, and trust the CAs of this machine.",
    ),
    setting(
        "--ca",
        metavar="FILE",
        type=FILE,
        help="Use TLS, and trust the CAs in this file (PEM).",
    ),
    setting(
        "--cert",
        metavar="FILE",
        type=FILE,
        help="Client certificate for TLS (PEM); needs --cert-key.",
    ),
    setting(
        "--cert-key",
        metavar="FILE",
        type=FILE,
        help="Private key of --cert (PEM).",
    ),
)
