"""TLS of a server: one certificate for both faces, read and checked before either listens."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from stagecast.config import Config, read_file
from stagecast.errors import StartError


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """Files in PEM, and what is in them.

    With `client_ca`, only clients with a certificate of it are let connect.
    """

    cert: Path
    key: Path
    client_ca: Path | None
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
    tls = Tls(
        cert=cert,
        key=key,
        client_ca=client_ca,
        cert_pem=read_file(cert),
        key_pem=read_file(key),
        client_ca_pem=None if client_ca is None else read_file(client_ca),
    )
    _check(tls)
    return tls


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
