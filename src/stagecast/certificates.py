"""Certificates and private keys in files, checked before gRPC or ssl use them.

gRPC and Python's ssl accept different files, and neither says clearly what is wrong with one. So
files are read once, and both get clean PEM made from them.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stagecast import pem
from stagecast.errors import StartError
from stagecast.paths import read_file, shown

_CURVES = ("secp256r1", "secp384r1", "secp521r1")

_Key = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey


def read_pair(cert: Path, key: Path) -> tuple[bytes, bytes]:
    """Return the certificates and the private key as clean PEM.

    Raises:
        StartError: a file cannot be read or is invalid, or the key does not match the certificate.
    """
    certificates, private_key = read_certificates(cert), _read_key(key)
    if not _matches(cert, certificates[0], private_key):
        for number, other in enumerate(certificates[1:], 2):
            if _matches(cert, other, private_key):
                raise StartError(
                    f"the private key in {shown(key)} belongs to certificate {number} in "
                    f"{shown(cert)}; that certificate must come first"
                )
        raise StartError(
            f"the private key in {shown(key)} does not match the certificate in {shown(cert)}"
        )
    key_pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return b"".join(certificates), key_pem


def read_certificates(path: Path) -> list[bytes]:
    """Return the certificates in a file, in order, each as PEM.

    Raises:
        StartError: the file cannot be read or is invalid.
    """
    try:
        return pem.read_certificates(read_file(path))
    except pem.PemError as error:
        raise StartError(f"{shown(path)} {error}") from error


def _read_key(path: Path) -> _Key:
    try:
        key = pem.read_private_key(read_file(path))
    except pem.PemError as error:
        raise StartError(f"{shown(path)} {error}") from error
    # With any other kind, gRPC only reports that it cannot bind to its address.
    if isinstance(key, RSAPrivateKey | Ed25519PrivateKey) or (
        isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _CURVES
    ):
        return key
    raise StartError(
        f"{shown(path)} holds an unsupported private key; use RSA, P-256, P-384, P-521 or Ed25519"
    )


def _matches(path: Path, certificate: bytes, key: _Key) -> bool:
    try:
        return pem.load_certificate(certificate).public_key() == key.public_key()
    except pem.PemError as error:
        raise StartError(f"{shown(path)} {error}") from error
