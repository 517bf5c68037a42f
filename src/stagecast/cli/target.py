"""The server that a command asks, as options: where it is, and how to be let in."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from stagecast.certificates import read_certificates, read_pair
from stagecast.cli.params import DEFAULTS, FILE, Seconds, check_called, setting, together
from stagecast.client import Client
from stagecast.errors import StartError
from stagecast.runtime.exits import Unusable

Command = Callable[..., None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """How to be let in by a server: a key or token, and TLS with whom to trust and to be."""

    key: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    cert_key: Path | None = None

    @property
    def speaks_tls(self) -> bool:
        """Whether the server is spoken to with TLS."""
        return bool(self.tls or self.ca or self.cert)

    @property
    def scheme(self) -> str:
        """What URLs of the server begin with."""
        return "https" if self.speaks_tls else "http"

    def connect(self, address: str, *, timeout_s: float | None = None) -> Client:
        """Return a client whose calls may take so long.

        Raises:
            Unusable: a file cannot be used, or one of two is missing.
        """
        if (self.cert is None) != (self.cert_key is None):
            raise Unusable("--cert and --cert-key go together")
        try:
            return Client(
                address,
                key=self.key,
                tls=self.tls,
                ca=self.ca,
                cert=self.cert,
                cert_key=self.cert_key,
                timeout_s=timeout_s,
            )
        except ValueError as error:
            raise Unusable(str(error)) from error

    def context(self) -> ssl.SSLContext:
        """Return what HTTPS is spoken with.

        Raises:
            OSError: a file is no good.
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
    """A server to ask, and how long to wait for it."""

    address: str
    credentials: Credentials
    timeout_s: float

    def connect(self) -> Client:
        """Return a client.

        Raises:
            Unusable: a file cannot be used, or one of two is missing.
        """
        return self.credentials.connect(self.address, timeout_s=self.timeout_s)


def target_option(command: Command, *, timeout_s: float = 60.0) -> Command:
    """Give a command its `server`, for which it waits so long by default."""

    @functools.wraps(command)
    def asking(*, grpc: str, access: Credentials, timeout: float, **others: Any) -> None:  # noqa: ANN401 - its own
        command(target=Target(address=grpc, credentials=access, timeout_s=timeout), **others)

    timeout_option = setting(
        "--timeout",
        metavar="SECONDS",
        type=Seconds(min=0, min_open=True),
        default=timeout_s,
        show_default=True,
        help="Give up when the server has not answered for so long.",
    )
    return _grpc_option(timeout_option(credentials_options(asking)))


def credentials_options(command: Command) -> Command:
    """Give a command its `access`."""
    names = Credentials.__dataclass_fields__.keys()

    @functools.wraps(command)
    def let_in(**options: Any) -> None:  # noqa: ANN401 - its own, and ours
        access = Credentials(**{name: options.pop(name) for name in names})
        command(access=access, **options)

    return _options(let_in)


def _check_key(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return a key; what is wrong with it is told without it."""
    if value and not (value.isascii() and value.isprintable()):
        raise click.BadParameter("a key has letters, digits and '_', a token also '-' and '.'")
    return value or None


_grpc_option = setting(
    "--grpc",
    metavar="ADDRESS",
    callback=check_called,
    default=DEFAULTS.grpc,
    show_default=True,
    help="The server: HOST:PORT, or unix:PATH.",
)

_options = together(
    setting(
        "--key",
        metavar="KEY",
        callback=_check_key,
        help="The key or token that the server asks for. Others on this machine may see what is "
        "typed here; they do not see the environment.",
    ),
    setting(
        "--tls",
        is_flag=True,
        help="Speak TLS, and trust whom this machine trusts.",
    ),
    setting(
        "--ca",
        metavar="FILE",
        type=FILE,
        help="Speak TLS, and trust the certificates in this file (PEM).",
    ),
    setting(
        "--cert",
        metavar="FILE",
        type=FILE,
        help="The certificate to show to a server that asks for one (PEM).",
    ),
    setting(
        "--cert-key",
        metavar="FILE",
        type=FILE,
        help="Its private key (PEM).",
    ),
)
