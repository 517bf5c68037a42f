"""Certificates made by tests, each with its private key, as PEM files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The files of a certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates for this machine; its own is `ca`."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._ca = trustme.CA()
        self.ca = directory / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.ca)

    def issue(self, name: str) -> Certificate:
        """Return a certificate for this machine, and its key."""
        issued = self._ca.issue_cert("localhost", "127.0.0.1", common_name=name)
        files = Certificate(
            cert=self._directory / f"{name}.pem", key=self._directory / f"{name}.key"
        )
        issued.cert_chain_pems[0].write_to_path(files.cert)
        files.key.write_bytes(_as_pkcs8(issued.private_key_pem.bytes()))
        return files


def _as_pkcs8(pem: bytes) -> bytes:
    """Return a key in the form that current tools write; trustme writes an older one."""
    key = load_pem_private_key(pem, None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
