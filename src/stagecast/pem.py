"""What is in a file in PEM: certificates and keys, among whatever tools write around them.

Windows begins texts with a byte order mark or writes them in UTF-16, exports put names around the
blocks, `openssl ecparam` a block of parameters before the key. Libraries differ in what of that
they take, and in what they say of the rest; so they are given PEM that is made of what is found
here, and never the file.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
_PRIVATE_KEYS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
_PUBLIC_KEYS = ("PUBLIC KEY", "RSA PUBLIC KEY")
_DER: dict[str, Callable[[bytes], object]] = {
    "a certificate": x509.load_der_x509_certificate,
    "a public key": serialization.load_der_public_key,
    "a private key": lambda content: serialization.load_der_private_key(content, None),
}
_LINE = 64
_MAX_NAMED = 3  # kinds of blocks in a message


class PemError(ValueError):
    """What is wrong with a file, to be told behind its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    label: str
    body: str = field(repr=False)

    def pem(self) -> bytes:
        lines = [line.strip() for line in self.body.strip().splitlines()]
        inside = "\n".join(lines)
        return f"-----BEGIN {self.label}-----\n{inside}\n-----END {self.label}-----\n".encode()


def read_certificates(content: bytes) -> list[bytes]:
    """Return the certificates in a file, in its order, each in PEM.

    Raises:
        PemError: there is none, or one is malformed.
    """
    blocks = [block for block in _blocks(content) if block.label in _CERTIFICATES]
    if not blocks:
        raise PemError(f"holds no certificate in PEM: {_describe(content)}")
    return [_certificate(block) for block in blocks]


def load_certificate(pem: bytes) -> x509.Certificate:
    """Return the first certificate of clean PEM.

    Raises:
        PemError: it is malformed.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise PemError("holds a malformed certificate") from error


def read_private_key(content: bytes) -> PrivateKeyTypes:
    """Return the first private key in a file.

    Raises:
        PemError: there is none, or it is malformed, encrypted or of an unknown kind.
    """
    block = _first(content, _PRIVATE_KEYS, "private key")
    try:
        return serialization.load_pem_private_key(block.pem(), None)
    except TypeError as error:
        raise PemError("holds an encrypted private key; it is needed without a password") from error
    except UnsupportedAlgorithm as error:
        raise PemError("holds a private key of an unknown kind") from error
    except ValueError as error:
        raise PemError("holds a malformed private key") from error


def read_public_key(content: bytes) -> PublicKeyTypes:
    """Return the first public key in a file.

    Raises:
        PemError: there is none, or it is malformed or of an unknown kind.
    """
    block = _first(content, _PUBLIC_KEYS, "public key")
    try:
        return serialization.load_pem_public_key(block.pem())
    except UnsupportedAlgorithm as error:
        raise PemError("holds a public key of an unknown kind") from error
    except ValueError as error:
        raise PemError("holds a malformed public key") from error


def is_key(content: bytes) -> bool:
    """Tell whether a file holds what is known to be a key: PEM in whatever encoding, SSH, DER."""
    text = _text(content).lstrip()
    if "-----BEGIN" in text or text.startswith(("ssh-", "ecdsa-", "sk-")):
        return True
    return _der_kind(content) is not None


def _first(content: bytes, labels: tuple[str, ...], what: str) -> _Block:
    for block in _blocks(content):
        if block.label in labels:
            return block
    raise PemError(f"holds no {what} in PEM: {_describe(content)}")


def _blocks(content: bytes) -> list[_Block]:
    return [_Block(label=match[1], body=match[2]) for match in _BLOCK.finditer(_text(content))]


def _text(content: bytes) -> str:
    """Return the text of a file; what is not ASCII in it is between the blocks."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    return content.removeprefix(codecs.BOM_UTF8).decode("latin-1")


def _certificate(block: _Block) -> bytes:
    # Not by x509, which warns on stderr of certificates that systems trust.
    try:
        der = base64.b64decode("".join(block.body.split()), validate=True)
    except binascii.Error as error:
        raise PemError("holds a malformed certificate") from error
    encoded = base64.b64encode(der).decode()
    lines = [encoded[at : at + _LINE] for at in range(0, len(encoded), _LINE)]
    return _Block(label="CERTIFICATE", body="\n".join(lines)).pem()


def _describe(content: bytes) -> str:
    """Return what is in a file instead."""
    if not _text(content).strip():
        return "it is empty"
    labels = list(dict.fromkeys(block.label for block in _blocks(content)))
    if labels:
        more = " and more" if len(labels) > _MAX_NAMED else ""
        return f"it holds {', '.join(labels[:_MAX_NAMED])}{more}"
    kind = _der_kind(content)
    if kind is not None:
        return f"it is {kind} in DER"
    if "-----BEGIN" in _text(content):
        return "a block in it has no end"
    return "nothing in it begins with '-----BEGIN'"


def _der_kind(content: bytes) -> str | None:
    """Return what a file in DER is, if it is one."""
    for kind, load in _DER.items():
        try:
            load(content)
        except TypeError:  # it wants a password
            return kind
        except (ValueError, UnsupportedAlgorithm):
            continue
        return kind
    return None
