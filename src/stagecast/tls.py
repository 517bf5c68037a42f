"""TLS of a server: one certificate for both faces, read and checked before either listens.

It is read again when its files change; a live connection keeps the one that it began with.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from stagecast.config import Config, read_file
from stagecast.errors import StartError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """Files in PEM, what is in them, and a context that shows the certificate.

    With `client_ca`, only clients with a certificate of it are let connect.
    """

    cert: Path
    key: Path
    client_ca: Path | None
    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    client_ca_pem: bytes | None
    context: ssl.SSLContext = field(compare=False)


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
    tls = Tls(
        cert=cert,
        key=key,
        client_ca=client_ca,
        cert_pem=read_file(cert),
        key_pem=read_file(key),
        client_ca_pem=None if client_ca is None else read_file(client_ca),
        context=_show(cert, key),
    )
    _ask_clients(tls)
    return tls


async def keep_renewed(tls: Tls, on_renewed: Callable[[Tls], None], *, every_s: float) -> None:
    """Look every so many seconds whether a certificate or its key is another, and hand that over.

    What is no good is tried again at each look, since what is wrong may pass, and told once. Whom
    the certificates of clients have to come from stays as it was at the start.
    """
    told = ""
    while True:
        await asyncio.sleep(every_s)
        try:
            newest = _read_again(tls)
        except StartError as error:
            if str(error) != told:
                _log.error("the certificate in use stays: %s", error)
            told = str(error)
            continue
        told = ""
        if newest != tls:
            tls = newest
            on_renewed(tls)
            _log.info("%s was renewed", tls.cert)


def _read_again(tls: Tls) -> Tls:
    """Return what is in the files of certificate and key now.

    Raises:
        StartError: they are missing or no good, or were changed meanwhile.
    """
    newest = replace(tls, cert_pem=read_file(tls.cert), key_pem=read_file(tls.key))
    if newest == tls:
        return tls
    newest = replace(newest, context=_show(tls.cert, tls.key))
    _ask_clients(newest)
    # What was tried has to be what was read: they are written one after the other.
    if (read_file(tls.cert), read_file(tls.key)) != (newest.cert_pem, newest.key_pem):
        raise StartError(f"{tls.cert} and {tls.key} are being written")
    return newest


def _show(cert: Path, key: Path) -> ssl.SSLContext:
    """Return a context that shows a certificate; gRPC itself would only fail every handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # No password: nobody is there to type one.
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise StartError(
            f"{cert} and {key} are not a certificate and its private key in PEM"
        ) from error
    return context


def _ask_clients(tls: Tls) -> None:
    """Let the context know whom certificates of clients have to come from, if they need one."""
    if tls.client_ca_pem is None:
        return
    # Not from the file, which may be another by now. What is not ASCII there is a comment.
    pem = tls.client_ca_pem.decode("ascii", "ignore")
    try:
        tls.context.load_verify_locations(cadata=pem)
    except (OSError, ValueError) as error:
        raise StartError(f"{tls.client_ca} holds no certificate in PEM") from error
