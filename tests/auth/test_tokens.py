"""Tokens: signature, algorithm, claims, expiry, and key files."""

from __future__ import annotations

import base64
import codecs
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from stagecast.auth.secret import digest_of
from stagecast.auth.tokens import TokenVerifier, load_verifier
from stagecast.errors import CredentialsError, CredentialsExpired, CredentialsInvalid, StartError
from stagecast.model import Scope, Visibility

SHARED = "a text that both know, with 64 bytes or more, as the longest of the algorithms wants it"
DATASET = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


SIGNERS: dict[str, Callable[[], Any]] = {
    "HS256": lambda: SHARED,
    "RS256": rsa_key,
    "ES256": ec_key,
}


def pem(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))


def claims(**changes: Any) -> dict[str, Any]:
    argument = {
        "aud": "stagecast",
        "exp": time.time() + 600,
        "scope": "read openid report",
        "datasets": [DATASET.upper()],
        "sub": "alice",
    } | changes
    return {name: value for name, value in argument.items() if value is not None}


def forge(header: dict[str, Any], payload: Any, secret: bytes) -> str:
    """Sign any header and payload, as no library would."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, payload)
    ]
    signature = hmac.digest(secret, b".".join(parts), hashlib.sha256)
    return b".".join((*parts, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()


@pytest.fixture(params=["HS256", "RS256", "ES256"])
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def verifier(tmp_path: Path, algorithm: str) -> TokenVerifier:
    key = tmp_path / "key"
    signer = SIGNERS[algorithm]()
    key.write_bytes(f"{signer}\n".encode() if algorithm == "HS256" else pem(signer))
    return load_verifier(key, "stagecast")


def refusal(verifier: TokenVerifier, token: str) -> CredentialsError:
    with pytest.raises(CredentialsError) as raised:
        verifier.verify(token)
    return raised.value


def test_algorithm_follows_from_the_key(verifier: TokenVerifier, algorithm: str) -> None:
    assert verifier.algorithm == algorithm


def test_claims_become_the_principal(verifier: TokenVerifier, algorithm: str) -> None:
    end = int(time.time()) + 600
    token = jwt.encode(claims(exp=end), SIGNERS[algorithm](), algorithm)
    for _ in range(2):  # the second time from the cache
        principal = verifier.verify(token)
        assert principal.name == "token of alice"
        assert principal.scopes == {Scope.READ, Scope.REPORT}
        assert principal.visible == Visibility(frozenset({DATASET}))
        assert principal.expires_at == (end + 30) * 1_000_000


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"aud": "another"}, "wrong audience"),
        ({"aud": None}, "'exp' and 'aud' are required"),
        ({"exp": None}, "'exp' and 'aud' are required"),
        ({"exp": "soon"}, "malformed"),
        ({"nbf": 4_000_000_000}, "not valid yet"),
        ({"scope": ["read"]}, "'scope'"),
        ({"datasets": "all"}, "'datasets'"),
        ({"datasets": "*"}, "'datasets'"),
        ({"datasets": {"*": True}}, "'datasets'"),
        ({"datasets": ["first"]}, "'datasets'"),
        ({"datasets": [1]}, "'datasets'"),
    ],
)
def test_invalid_claims_are_refused(
    verifier: TokenVerifier, algorithm: str, changes: dict[str, Any], why: str
) -> None:
    error = refusal(verifier, jwt.encode(claims(**changes), SIGNERS[algorithm](), algorithm))
    assert isinstance(error, CredentialsInvalid)
    assert why in str(error)


def test_expired_token_is_refused_as_expired(verifier: TokenVerifier, algorithm: str) -> None:
    expired = jwt.encode(claims(exp=time.time() - 60), SIGNERS[algorithm](), algorithm)
    assert isinstance(refusal(verifier, expired), CredentialsExpired)
    recent = jwt.encode(claims(exp=time.time() - 1), SIGNERS[algorithm](), algorithm)
    assert verifier.verify(recent), "clocks may differ"


@pytest.mark.parametrize(
    ("datasets", "visible"), [(None, frozenset()), ([], frozenset()), (["*"], None)]
)
def test_visible_datasets_are_those_of_the_claim(
    verifier: TokenVerifier, algorithm: str, datasets: Any, visible: Any
) -> None:
    token = jwt.encode(claims(datasets=datasets), SIGNERS[algorithm](), algorithm)
    assert verifier.verify(token).visible == Visibility(visible)


def test_token_without_scope_allows_nothing(verifier: TokenVerifier, algorithm: str) -> None:
    for scope in (None, "", "reader reporting READ re ad", "read,report"):
        token = jwt.encode(claims(scope=scope), SIGNERS[algorithm](), algorithm)
        assert verifier.verify(token).scopes == frozenset()


@pytest.mark.parametrize("subject", [None, "", "two\nlines", "\x1b[31m", "x" * 101])
def test_unsuitable_subject_is_not_shown(
    verifier: TokenVerifier, algorithm: str, subject: str | None
) -> None:
    token = jwt.encode(claims(sub=subject), SIGNERS[algorithm](), algorithm)
    principal = verifier.verify(token)
    assert principal.name == "a token"
    assert principal.identity == (f"token of {subject}" if subject else None)


@pytest.mark.parametrize("other", ["HS256", "HS512", "RS256", "RS512", "ES256", "PS256", "none"])
def test_token_with_another_algorithm_is_refused(
    verifier: TokenVerifier, algorithm: str, other: str
) -> None:
    if other == algorithm:
        return
    signers: dict[str, Any] = {
        "H": SHARED,
        "R": rsa_key(),
        "P": rsa_key(),
        "E": ec_key(),
        "n": None,
    }
    token = jwt.encode(claims(), signers[other[0]], other)
    assert isinstance(refusal(verifier, token), CredentialsInvalid)


def test_token_signed_with_another_key_is_refused(verifier: TokenVerifier, algorithm: str) -> None:
    others: dict[str, Any] = {
        "HS256": "another secret that has 32 bytes or more",
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
    }
    token = jwt.encode(claims(), others[algorithm], algorithm)
    assert "not signed with the key" in str(refusal(verifier, token))


def test_cached_token_is_matched_as_a_whole(verifier: TokenVerifier, algorithm: str) -> None:
    token = jwt.encode(claims(), SIGNERS[algorithm](), algorithm)
    assert verifier.verify(token)
    signed, _, signature = token.rpartition(".")
    for forged in (f"{signed}.", f"{signed}.{signature[::-1]}", f"{signed}.{'A' * len(signature)}"):
        assert isinstance(refusal(verifier, forged), CredentialsInvalid)


def test_public_key_is_not_used_as_a_secret(verifier: TokenVerifier, algorithm: str) -> None:
    """The public key must not sign tokens."""
    public = SHARED.encode() if algorithm == "HS256" else pem(SIGNERS[algorithm]())
    for name in ("HS256", algorithm):
        for key in (public, public.strip()):
            token = forge({"alg": name, "typ": "JWT"}, claims(), key)
            if algorithm == "HS256":
                assert verifier.verify(token)
            else:
                assert isinstance(refusal(verifier, token), CredentialsInvalid)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 0, ["HS256"]])
def test_token_without_a_valid_algorithm_is_refused(verifier: TokenVerifier, alg: Any) -> None:
    for token in (
        forge({"alg": alg, "typ": "JWT"}, claims(), b"x"),
        forge({"alg": alg, "typ": "JWT"}, claims(), b"x").rpartition(".")[0] + ".",
    ):
        assert isinstance(refusal(verifier, token), CredentialsInvalid)


@pytest.mark.parametrize(
    "token",
    [
        *("", ".", "..", "a.b.c", "ä.ö.ü", "e30.e30.e30", "\x00", "=.=.=", "a" * 10_000),
        "a." * 5_000,
        f"{base64.urlsafe_b64encode(b'[' * 6_000).decode()}.e30.e30",
    ],
)
def test_malformed_token_is_refused_and_not_echoed(verifier: TokenVerifier, token: str) -> None:
    error = refusal(verifier, token)
    assert isinstance(error, CredentialsInvalid)
    assert len(str(error)) < 100


@pytest.mark.parametrize("payload", ["text", 1, [], None, {"exp": 1e400, "aud": "stagecast"}])
def test_payload_that_is_not_a_set_of_claims_is_refused(tmp_path: Path, payload: Any) -> None:
    key = tmp_path / "key"
    key.write_text(SHARED)
    token = forge({"alg": "HS256", "typ": "JWT"}, payload, SHARED.encode())
    assert isinstance(refusal(load_verifier(key, "stagecast"), token), CredentialsInvalid)


def _der(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.DER, form))


def _private(key: Any) -> bytes:
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: b"", "too short"),
        (lambda: b"short", "too short"),
        (lambda: b"x" * 31 + b"\n", "too short"),
        (lambda: _private(rsa_key()), "holds no public key in PEM: it holds PRIVATE KEY"),
        (lambda: b"-----BEGIN PUBLIC KEY-----\nnonsense\n", "holds no public key in PEM"),
        (
            lambda: b"-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----",
            "a malformed public",
        ),
        (lambda: _der(rsa_key()), "holds no public key in PEM: it is a public key in DER"),
        (
            lambda: json.dumps({"kty": "EC", "crv": "P-256", "x": "x" * 43}).encode(),
            "no public key in PEM",
        ),
        (
            lambda: b"\xef\xbb\xbfssh-rsa AAAA somebody@somewhere with enough",
            "holds no public key in PEM",
        ),
        (
            lambda: b"ssh-rsa AAAA somebody@somewhere with enough bytes",
            "holds no public key in PEM",
        ),
        (lambda: b"ecdsa-sha2-nistp256 AAAA somebody@somewhere", "holds no public key in PEM"),
        (
            lambda: pem(ec.generate_private_key(ec.SECP384R1())),
            "use RSA with at least 2048 bits or",
        ),
        (lambda: pem(ed25519.Ed25519PrivateKey.generate()), "use RSA with at least 2048 bits or"),
        (
            lambda: pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),  # noqa: S505 - to be refused
            "use RSA with at least 2048 bits or",
        ),
    ],
)
def test_unsupported_key_file_fails_the_start(
    tmp_path: Path, make: Callable[[], bytes], why: str
) -> None:
    key = tmp_path / "key"
    key.write_bytes(make())
    with pytest.raises(StartError, match=why) as raised:
        load_verifier(key, "stagecast")
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_key_file_from_windows_is_read_as_text(tmp_path: Path, encoding: str) -> None:
    """A public key used as a secret would let everybody sign."""
    path = tmp_path / "key"
    path.write_bytes(f"{pem(ec_key()).decode()}".replace("\n", "\r\n").encode(encoding))
    assert load_verifier(path, "stagecast").algorithm == "ES256"
    path.write_bytes(f"{SHARED}\r\n".encode(encoding))
    token = jwt.encode(claims(), SHARED, "HS256")
    assert load_verifier(path, "stagecast").verify(token).name == "token of alice"


@pytest.mark.parametrize("bom", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE])
def test_random_bytes_may_begin_with_a_byte_order_mark(tmp_path: Path, bom: bytes) -> None:
    secret = bom + bytes(range(1, 61))
    (tmp_path / "key").write_bytes(secret)
    token = jwt.encode(claims(), secret, "HS256")
    assert load_verifier(tmp_path / "key", "stagecast").verify(token).name == "token of alice"


def test_secret_of_minimum_length_is_accepted(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"x" * 32)
    token = jwt.encode(claims(), b"x" * 32, "HS256")
    assert load_verifier(key, "stagecast").verify(token).name == "token of alice"


def test_missing_key_file_fails_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"cannot read .*missing: No such file"):
        load_verifier(tmp_path / "missing", "stagecast")


def test_token_cache_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(SHARED)
    verifier = load_verifier(key, "stagecast")
    used = jwt.encode(claims(), SHARED, "HS256")
    tokens = [jwt.encode(claims(jti=f"{number}"), SHARED, "HS256") for number in range(1_100)]
    for token in tokens:
        verifier.verify(token)
        verifier.verify(used)
    assert [*verifier._cache] == [*map(digest_of, (*tokens[-999:], used))]
