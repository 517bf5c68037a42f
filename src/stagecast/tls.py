"""TLS of a server: one certificate for both faces, read and checked before either listens.

The certificate is read again when its files change; a live connection keeps the one that it began
with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO

from stagecast.certificates import read_certificates, read_pair
from stagecast.config import Config
from stagecast.errors import StartError
from stagecast.failures import reason_of
from stagecast.paths import shown
from stagecast.pem import load_certificate
from stagecast.threads import run_in_daemon

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """Files, PEM that is made of them, and a context that shows the certificate.

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
        StartError: a file cannot be read or is no good, the key is not that of the certificate, or
            only one of the two is given.
    """
    cert, key, client_ca = config.tls_cert, config.tls_key, config.tls_client_ca
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise StartError("TLS needs both --tls-cert and --tls-key")
    cert_pem, key_pem = read_pair(cert, key)
    tls = Tls(
        cert=cert,
        key=key,
        client_ca=client_ca,
        cert_pem=cert_pem,
        key_pem=key_pem,
        client_ca_pem=None if client_ca is None else b"".join(read_certificates(client_ca)),
        context=_show(cert, key, cert_pem, key_pem),
    )
    _ask_clients(tls)
    _warn_of_dates(tls)
    return tls


async def keep_renewed(tls: Tls, on_renewed: Callable[[Tls], None], *, every_s: float) -> None:
    """Look every so many seconds whether a certificate or its key is another, and hand that over.

    What is no good is tried again at each look, since what is wrong may pass, and told once. Whom
    the certificates of clients have to come from stays as it was at the start.
    """
    reported = ""
    while True:
        await asyncio.sleep(every_s)
        try:
            # What stands in the place of a file by now may keep whoever reads it waiting.
            newest = await run_in_daemon(partial(_read_again, tls))
        except StartError as error:
            if str(error) != reported:
                _log.error("the certificate in use stays: %s", error)
            reported = str(error)
            continue
        reported = ""
        if newest != tls:
            tls = newest
            on_renewed(tls)
            _log.info("%s was renewed", shown(tls.cert))
            _warn_of_dates(tls)


def _read_again(tls: Tls) -> Tls:
    """Return what is in the files of certificate and key now.

    Raises:
        StartError: they cannot be read or are no good; as they are written one after the other,
            they may not belong together for a moment.
    """
    cert_pem, key_pem = read_pair(tls.cert, tls.key)
    newest = replace(tls, cert_pem=cert_pem, key_pem=key_pem)
    if newest == tls:
        return tls
    newest = replace(newest, context=_show(tls.cert, tls.key, cert_pem, key_pem))
    _ask_clients(newest)
    return newest


def _show(cert: Path, key: Path, cert_pem: bytes, key_pem: bytes) -> ssl.SSLContext:
    """Return a context that shows a certificate; OpenSSL may find the key too small, for example.

    Raises:
        StartError: it cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        with _file_with(cert_pem) as certificates, _file_with(key_pem) as private_key:
            context.load_cert_chain(certificates, private_key)
    except OSError as error:
        raise StartError(
            f"{shown(cert)} and {shown(key)} cannot be used: {_reason(error)}"
        ) from error
    return context


def _ask_clients(tls: Tls) -> None:
    """Let the context know whom certificates of clients have to come from, if they need one."""
    if tls.client_ca is None or tls.client_ca_pem is None:
        return
    try:
        tls.context.load_verify_locations(cadata=tls.client_ca_pem.decode())
    except OSError as error:
        raise StartError(f"{shown(tls.client_ca)} cannot be used: {_reason(error)}") from error
    tls.context.verify_mode = ssl.CERT_REQUIRED


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return reason_of(error)


def _warn_of_dates(tls: Tls) -> None:
    """Tell in the log of a certificate out of its time; it is this clock that may be wrong."""
    certificate, now = load_certificate(tls.cert_pem), datetime.now(UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        _log.warning("%s has expired: it was valid until %s", shown(tls.cert), end)
    elif now < begin:
        _log.warning("%s is not valid yet: it will be from %s on", shown(tls.cert), begin)


@contextlib.contextmanager
def _file_with(content: bytes) -> Iterator[str]:
    """Give the path of a file, since ssl loads from files alone; it is on no disk under a name."""
    with _nameless_file() as file:
        file.write(content)
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"


def _nameless_file() -> IO[bytes]:
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("pem"), "w+b")
    return tempfile.TemporaryFile()
