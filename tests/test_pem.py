"""PEM files of common tools are accepted; errors describe what is wrong with others."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from stagecast.app import App
from stagecast.config import Config
from stagecast.errors import StartError
from stagecast.tls import load_tls
from tests.certificates import Authority, Certificate
from tests.test_renewal import shown_certificate

_PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
_BAG = "Bag Attributes\n    friendlyName: Müller\nsubject=CN = server\n\n".encode("latin-1")


@pytest.fixture
def config(config: Config, ours: Certificate) -> Config:
    return replace(config, tls_cert=ours.cert, tls_key=ours.key)


def _with_bom(content: bytes) -> bytes:
    return b"\xef\xbb\xbf" + content


def _utf_16(content: bytes) -> bytes:
    return content.replace(b"\n", b"\r\n").decode().encode("utf-16")


def _crlf(content: bytes) -> bytes:
    return content.replace(b"\n", b"\r\n")


def _named(content: bytes) -> bytes:
    return _BAG + content + _BAG


def _indented(content: bytes) -> bytes:
    return b"\n".join(b"  " + line for line in content.splitlines())


def _behind_parameters(key: bytes) -> bytes:
    return _PARAMETERS + _traditional(key)


def _traditional(key: bytes) -> bytes:
    return _written(load_pem_private_key(key, None), form=PrivateFormat.TraditionalOpenSSL)


def _same(content: bytes) -> bytes:
    return content


@pytest.mark.parametrize(
    ("cert", "key"),
    [
        (_with_bom, _same),
        (_same, _with_bom),
        (_utf_16, _utf_16),
        (_crlf, _crlf),
        (_named, _named),
        (_indented, _indented),
        (_same, _traditional),
        (_same, _behind_parameters),
    ],
)
async def test_files_of_common_tools_are_used_by_grpc_and_http(
    config: Config,
    ours: Certificate,
    cert: Callable[[bytes], bytes],
    key: Callable[[bytes], bytes],
) -> None:
    expected = ours.cert.read_text()
    ours.cert.write_bytes(cert(ours.cert.read_bytes()))
    ours.key.write_bytes(key(ours.key.read_bytes()))
    async with App(config) as server:
        for address in (server.grpc_address, server.http_address):
            assert await shown_certificate(address) == expected


async def test_key_and_chain_may_be_in_one_file(
    config: Config, authority: Authority, ours: Certificate
) -> None:
    expected, both = ours.cert.read_text(), ours.cert.with_name("both.pem")
    both.write_bytes(
        _named(ours.key.read_bytes()) + ours.cert.read_bytes() + authority.ca.read_bytes()
    )
    async with App(replace(config, tls_cert=both, tls_key=both)) as server:
        for address in (server.grpc_address, server.http_address):
            assert await shown_certificate(address) == expected


async def test_client_ca_may_be_written_by_any_tool(config: Config, authority: Authority) -> None:
    authority.ca.write_bytes(_utf_16(authority.ca.read_bytes() + authority.ca.read_bytes()))
    async with App(replace(config, tls_client_ca=authority.ca)) as server:
        assert server.grpc_address


def _written(
    key: Any, *, form: PrivateFormat = PrivateFormat.PKCS8, password: bytes | None = None
) -> bytes:
    secrecy = BestAvailableEncryption(password) if password else NoEncryption()
    return bytes(key.private_bytes(Encoding.PEM, form, secrecy))


def _certificate(key: Any, *, days: tuple[int, int] = (-1, 1)) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin, end = (
        datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=day) for day in days
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    algorithm = None if isinstance(key, ed448.Ed448PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM and other forms."""

    private: ec.EllipticCurvePrivateKey
    cert: bytes
    key: bytes

    @property
    def cert_der(self) -> bytes:
        return x509.load_pem_x509_certificate(self.cert).public_bytes(Encoding.DER)

    @property
    def key_der(self) -> bytes:
        return self.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def encrypted(self, form: PrivateFormat) -> bytes:
        return _written(self.private, form=form, password=b"x")


@pytest.fixture
def pair() -> Pair:
    private = ec.generate_private_key(ec.SECP256R1())
    return Pair(private, _certificate(private), _written(private))


INVALID_CERTIFICATES: dict[str, tuple[Callable[[Pair], bytes], str]] = {
    "empty": (lambda _: b"", "no certificate in PEM: it is empty"),
    "only a byte order mark": (lambda _: b"\xef\xbb\xbf\r\n", "no certificate in PEM: it is empty"),
    "text": (
        lambda _: b"half a certif",
        "no certificate in PEM: it has no '-----BEGIN' line",
    ),
    "half": (
        lambda pair: pair.cert[:-20],
        "no certificate in PEM: a block has no '-----END' line",
    ),
    "der": (
        lambda pair: pair.cert_der,
        "no certificate in PEM: it is a certificate in DER",
    ),
    "key": (lambda pair: pair.key, "no certificate in PEM: it holds PRIVATE KEY"),
    "key in der": (
        lambda pair: pair.key_der,
        "no certificate in PEM: it is a private key in DER",
    ),
    "no base64": (lambda pair: pair.cert.replace(b"\nM", b"\n!", 1), "a malformed certificate"),
    "nonsense": (lambda pair: pair.cert.replace(b"\nM", b"\nA", 1), "a malformed certificate"),
}
INVALID_KEYS: dict[str, tuple[Callable[[Pair], bytes], str]] = {
    "empty": (lambda _: b"", "no private key in PEM: it is empty"),
    "certificate": (
        lambda pair: pair.cert + _PARAMETERS,
        "no private key in PEM: it holds CERTIFICATE, EC PARAMETERS",
    ),
    "der": (lambda pair: pair.key_der, "no private key in PEM: it is a private key in DER"),
    "encrypted": (
        lambda pair: pair.encrypted(PrivateFormat.PKCS8),
        "an encrypted private key; remove its password",
    ),
    "encrypted as before": (
        lambda pair: pair.encrypted(PrivateFormat.TraditionalOpenSSL),
        "an encrypted private key; remove its password",
    ),
    "nonsense": (lambda pair: pair.key.replace(b"\nM", b"\nA", 1), "a malformed private key"),
}


@pytest.mark.parametrize("case", INVALID_CERTIFICATES)
def test_invalid_certificate_is_described(
    config: Config, ours: Certificate, pair: Pair, case: str
) -> None:
    make, why = INVALID_CERTIFICATES[case]
    ours.cert.write_bytes(make(pair))
    ours.key.write_bytes(pair.key)
    with pytest.raises(StartError) as raised:
        load_tls(config)
    assert str(raised.value) == f"{ours.cert} holds {why}"


@pytest.mark.parametrize("case", INVALID_KEYS)
def test_invalid_key_is_described(config: Config, ours: Certificate, pair: Pair, case: str) -> None:
    make, why = INVALID_KEYS[case]
    ours.key.write_bytes(make(pair))
    with pytest.raises(StartError) as raised:
        load_tls(config)
    assert str(raised.value) == f"{ours.key} holds {why}"


@pytest.mark.parametrize("kind", ["Ed448", "secp256k1"])
def test_key_that_grpc_does_not_support_is_refused(
    config: Config, ours: Certificate, kind: str
) -> None:
    key = (
        ed448.Ed448PrivateKey.generate()
        if kind == "Ed448"
        else ec.generate_private_key(ec.SECP256K1())
    )
    ours.cert.write_bytes(_certificate(key))
    ours.key.write_bytes(_written(key))
    with pytest.raises(StartError, match="holds an unsupported private key; use RSA, P-256,"):
        load_tls(config)


def test_small_key_is_refused(config: Config, ours: Certificate) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused
    ours.cert.write_bytes(_certificate(key))
    ours.key.write_bytes(_written(key))
    with pytest.raises(StartError, match="cannot be used: ee key too small"):
        load_tls(config)


def test_certificate_of_the_key_must_come_first(
    config: Config, authority: Authority, ours: Certificate
) -> None:
    ours.cert.write_bytes(authority.ca.read_bytes() + ours.cert.read_bytes())
    with pytest.raises(
        StartError, match=r"belongs to certificate 2 in .*; that certificate must come first"
    ):
        load_tls(config)


@pytest.mark.parametrize(
    ("days", "warning"), [((-3, -2), "has expired"), ((2, 3), "not valid yet")]
)
def test_certificate_that_is_not_valid_now_is_used_with_a_warning(
    config: Config,
    ours: Certificate,
    caplog: pytest.LogCaptureFixture,
    pair: Pair,
    days: tuple[int, int],
    warning: str,
) -> None:
    """The clock of this machine may be wrong."""
    caplog.set_level(logging.WARNING, "stagecast.tls")
    ours.cert.write_bytes(_certificate(pair.private, days=days))
    ours.key.write_bytes(pair.key)
    assert load_tls(config) is not None
    [line] = caplog.messages
    assert line.startswith(f"{ours.cert} ")
    assert warning in line


def test_client_ca_has_to_hold_certificates(config: Config, tmp_path: Path, pair: Pair) -> None:
    trusted = tmp_path / "trusted.pem"
    for content, why in (
        (b"", "holds no certificate in PEM: it is empty"),
        (pair.key, "holds no certificate in PEM: it holds PRIVATE KEY"),
        (pair.cert.replace(b"\nM", b"\nA", 1), "cannot be used: "),
    ):
        trusted.write_bytes(content)
        with pytest.raises(StartError, match=why):
            load_tls(replace(config, tls_client_ca=trusted))
