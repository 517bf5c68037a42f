"""Files in PEM, checked before grpc has them: it would only fail every handshake.

grpc is given what was found in them and nothing else: it also trips over a mark that editors put
before a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding

_MARK = b"\xef\xbb\xbf"  # of UTF-8


def read_certificates(path: Path) -> bytes:
    """Return the certificates of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: there is none in it.
    """
    return _write(_certificates(path))


def read_pair(cert: Path, key: Path) -> tuple[bytes, bytes]:
    """Return a certificate, with those that lead to its root, and its private key.

    Raises:
        OSError: a file cannot be read.
        ValueError: one of the two is not in its file, or the key is another's.
    """
    certificates = _certificates(cert)
    try:
        private = serialization.load_pem_private_key(_content(key), password=None)
    except TypeError as error:
        raise ValueError(f"{key} has a password; give a key without one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{key} holds no private key in PEM") from error
    if private.public_key() != certificates[0].public_key():
        raise ValueError(f"{key} is not the key of the certificate in {cert}")
    pem = private.private_bytes(
        Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return _write(certificates), pem


def _certificates(path: Path) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_content(path))
    except ValueError as error:
        raise ValueError(f"{path} holds no certificate in PEM") from error


def _content(path: Path) -> bytes:
    return path.read_bytes().removeprefix(_MARK)


def _write(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
