"""TLS of a server: one certificate for gRPC and HTTP, checked before either listens.

The certificate is reloaded when its files change; open connections keep the old one.
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
    """The files, clean PEM made from them, and a context that presents the certificate.

    With `client_ca`, only clients with a certificate signed by it can connect.
    """

    cert: Path
    key: Path
    client_ca: Path | None
    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    client_ca_pem: bytes | None
    context: ssl.SSLContext = field(compare=False)


def load_tls(config: Config) -> Tls | None:
    """Return the configured TLS, if any.

    Raises:
        StartError: a file cannot be read or is invalid, the key does not match the certificate, or
            one of the two is missing.
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
        context=_make_context(cert, key, cert_pem, key_pem),
    )
    _require_client_certificates(tls)
    _warn_about_validity(tls)
    return tls


async def keep_renewed(tls: Tls, on_renewed: Callable[[Tls], None], *, every_s: float) -> None:
    """Reload the certificate and its key every so many seconds, and pass them on if they changed.

    Invalid files are logged once and tried again each time, since the cause may pass. The CA of
    client certificates is not reloaded.
    """
    reported = ""
    while True:
        await asyncio.sleep(every_s)
        try:
            # On a thread: by now the path may lead to a pipe or a disk that hangs.
            newest = await run_in_daemon(partial(_reload, tls))
        except StartError as error:
            if str(error) != reported:
                _log.error("keeping the current certificate: %s", error)
            reported = str(error)
            continue
        reported = ""
        if newest != tls:
            tls = newest
            on_renewed(tls)
            _log.info("%s was renewed", shown(tls.cert))
            _warn_about_validity(tls)


def _reload(tls: Tls) -> Tls:
    """Return the TLS with the current files of certificate and key.

    Raises:
        StartError: they cannot be read or are invalid; as they are written one after the other,
            they may not match for a moment.
    """
    cert_pem, key_pem = read_pair(tls.cert, tls.key)
    newest = replace(tls, cert_pem=cert_pem, key_pem=key_pem)
    if newest == tls:
        return tls
    newest = replace(newest, context=_make_context(tls.cert, tls.key, cert_pem, key_pem))
    _require_client_certificates(newest)
    return newest


def _make_context(cert: Path, key: Path, cert_pem: bytes, key_pem: bytes) -> ssl.SSLContext:
    """Return a context that presents a certificate.

    Raises:
        StartError: OpenSSL refuses it, for example because the key is too small.
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


def _require_client_certificates(tls: Tls) -> None:
    """Make the context require certificates signed by `client_ca`, if there is one.

    Raises:
        StartError: OpenSSL refuses it.
    """
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


def _warn_about_validity(tls: Tls) -> None:
    """Log a certificate that is not valid now; it is used, since this clock may be wrong."""
    certificate, now = load_certificate(tls.cert_pem), datetime.now(UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        _log.warning("%s has expired: it was valid until %s", shown(tls.cert), end)
    elif now < begin:
        _log.warning("%s is not valid yet: it is valid from %s", shown(tls.cert), begin)


@contextlib.contextmanager
def _file_with(content: bytes) -> Iterator[str]:
    """Yield the path of a nameless temporary file, since ssl loads from files only."""
    with _nameless_file() as file:
        file.write(content)
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}"


def _nameless_file() -> IO[bytes]:
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("pem"), "w+b")
    return tempfile.TemporaryFile()
