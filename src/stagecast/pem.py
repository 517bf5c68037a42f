"""Certificates and keys in PEM files, also among other text that tools write.

Windows begins texts with a byte order mark or writes them in UTF-16, exports put names around the
blocks, `openssl ecparam` a block of parameters before the key. Libraries differ in what they accept
of that, and in how they report the rest; so they get PEM made from the blocks, never the file.
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
    """What is wrong with a file; the message continues after its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    label: str
    body: str = field(repr=False)

    def pem(self) -> bytes:
        lines = [line.strip() for line in self.body.strip().splitlines()]
        inside = "\n".join(lines)
        return f"-----BEGIN {self.label}-----\n{inside}\n-----END {self.label}-----\n".encode()


def read_certificates(content: bytes) -> list[bytes]:
    """Return the certificates in a file, in order, each as PEM.

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
        PemError: there is none, or it is malformed, encrypted or unsupported.
    """
    block = _first(content, _PRIVATE_KEYS, "private key")
    try:
        return serialization.load_pem_private_key(block.pem(), None)
    except TypeError as error:
        raise PemError("holds an encrypted private key; remove its password") from error
    except UnsupportedAlgorithm as error:
        raise PemError("holds an unsupported kind of private key") from error
    except ValueError as error:
        raise PemError("holds a malformed private key") from error


def read_public_key(content: bytes) -> PublicKeyTypes:
    """Return the first public key in a file.

    Raises:
        PemError: there is none, or it is malformed or unsupported.
    """
    block = _first(content, _PUBLIC_KEYS, "public key")
    try:
        return serialization.load_pem_public_key(block.pem())
    except UnsupportedAlgorithm as error:
        raise PemError("holds an unsupported kind of public key") from error
    except ValueError as error:
        raise PemError("holds a malformed public key") from error


def is_key(content: bytes) -> bool:
    """Return whether a file holds a known format of keys: PEM in any encoding, SSH or DER."""
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
    """Return the text of a file; characters that are not ASCII occur only between blocks."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    return content.removeprefix(codecs.BOM_UTF8).decode("latin-1")


def _certificate(block: _Block) -> bytes:
    # Not by x509, which warns on stderr about some certificates that systems trust.
    try:
        der = base64.b64decode("".join(block.body.split()), validate=True)
    except binascii.Error as error:
        raise PemError("holds a malformed certificate") from error
    encoded = base64.b64encode(der).decode()
    lines = [encoded[at : at + _LINE] for at in range(0, len(encoded), _LINE)]
    return _Block(label="CERTIFICATE", body="\n".join(lines)).pem()


def _describe(content: bytes) -> str:
    """Describe the content of a file without the expected block."""
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
        return "a block has no '-----END' line"
    return "it has no '-----BEGIN' line"


def _der_kind(content: bytes) -> str | None:
    """Return what a DER file holds, `None` for any other file."""
    for kind, load in _DER.items():
        try:
            load(content)
        except TypeError:  # it is encrypted
            return kind
        except (ValueError, UnsupportedAlgorithm):
            continue
        return kind
    return None
