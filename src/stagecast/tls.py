"""TLS of a server: one certificate for both faces, read and checked before either listens.

It is read again when its files change; a live connection keeps the one that it began with.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from stagecast.config import Config, read_file
from stagecast.errors import StartError

_log = logging.getLogger(__name__)

# What tells that a file is another: when it was changed, which one it is, how large; of a file that
# is missing, nothing.
_Stamp = tuple[int, int, int] | None
_Stamps = tuple[_Stamp, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """Files in PEM, and what is in them.

    With `client_ca`, only clients with a certificate of it are let connect. By its `stamps`, taken
    before they were read, certificate and key are known from what comes later.
    """

    cert: Path
    key: Path
    client_ca: Path | None
    stamps: _Stamps
    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    client_ca_pem: bytes | None


def load_tls(config: Config) -> Tls | None:
    """Return the TLS that is configured, if any.

    Raises:
        StartError: a file is missing or no good, the key is not that of the certificate, or only
            one of the two is given.
    """
    cert, key, client_ca = config.tls_cert, config.tls_key, config.tls_client_ca
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise StartError("TLS needs both --tls-cert and --tls-key")
    return _read(cert, key, client_ca)


async def keep_renewed(tls: Tls, on_renewed: Callable[[Tls], None], *, every_s: float) -> None:
    """Look every so many seconds whether a certificate or its key is another, and hand that over.

    What is no good is logged once, until it changes again. Whom the certificates of clients have to
    come from stays as it was at the start: a context of Python's that is in use can be taught to
    trust more, never less.
    """
    stamps = tls.stamps
    while True:
        await asyncio.sleep(every_s)
        found = _stamps(tls.cert, tls.key)
        if found != stamps:
            stamps = found
            _renew(tls, on_renewed)


def _renew(tls: Tls, on_renewed: Callable[[Tls], None]) -> None:
    try:
        on_renewed(_read(tls.cert, tls.key, tls.client_ca))
    except (StartError, OSError) as error:
        _log.error("the certificate in use stays: %s", error)
    else:
        _log.info("%s was renewed", tls.cert)


def _read(cert: Path, key: Path, client_ca: Path | None) -> Tls:
    tls = Tls(
        cert=cert,
        key=key,
        client_ca=client_ca,
        stamps=_stamps(cert, key),
        cert_pem=read_file(cert),
        key_pem=read_file(key),
        client_ca_pem=None if client_ca is None else read_file(client_ca),
    )
    _check(tls)
    return tls


def _stamps(*paths: Path) -> _Stamps:
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _check(tls: Tls) -> None:
    """Try the files: gRPC itself would only fail every handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # No password: nobody is there to type one.
        context.load_cert_chain(tls.cert, tls.key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise StartError(
            f"{tls.cert} and {tls.key} are not a certificate and its private key in PEM"
        ) from error
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except (OSError, ValueError) as error:
            raise StartError(f"{tls.client_ca} holds no certificate in PEM") from error
