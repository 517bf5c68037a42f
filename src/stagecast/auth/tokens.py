"""Signed tokens (JWT) of somebody else, who knows our secret or whose public key we have.

One key means one algorithm, which follows from what the key is, never from what a token says. So
there is no `none`, and no token whose HMAC was made with a public key.
"""

from __future__ import annotations

import codecs
import contextlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from stagecast.auth.secret import digest_of
from stagecast.errors import CredentialsError, CredentialsExpired, CredentialsInvalid, StartError
from stagecast.escaping import is_printable
from stagecast.model import ALL, SECOND_US, Principal, Scope, Visibility, canonical_uuid
from stagecast.paths import read_file, shown
from stagecast.pem import PemError, is_key, read_public_key

_LEEWAY_S = 30  # that clocks may differ
_LEAST_SECRET, _MIN_RSA_BITS = 32, 2_048
_MAX_NAME = 100
_MAX_KNOWN = 1_000
_EVERY_DATASET = "*"
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

# What a bad token is told; by whatever else it breaks the rules, it is malformed.
_FAULTS: dict[type[Exception], str] = {
    jwt.InvalidSignatureError: "the token was not signed with the key of this server",
    jwt.InvalidAlgorithmError: "the token was not signed in the way of this server",
    jwt.InvalidAudienceError: "the token is meant for somebody else",
    jwt.ImmatureSignatureError: "the token is not valid yet",
    jwt.MissingRequiredClaimError: "the token needs the claims 'exp' and 'aud'",
}
# The last of them only of what was signed: numbers beyond all bounds, JSON too deep to read.
_BAD = (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError)


class TokenVerifier:
    """Tells whom a token stands for.

    The claims: `aud` and `exp`, demanded; `scope`, words with spaces between them; `datasets`, a
    list of ids, in which `*` is all of them; `sub`, a name for logs. A token without `scope` allows
    nothing, one without `datasets` sees nothing.

    Args:
        key: what signatures are checked with.
        algorithm: the one that they are made with.
        audience: whom tokens have to be meant for.
    """

    def __init__(
        self, key: bytes | RSAPublicKey | EllipticCurvePublicKey, algorithm: str, audience: str
    ) -> None:
        self.algorithm = algorithm
        self._key = key
        self._audience = audience
        # To check a signature takes longer than all the rest of a poll.
        self._known: OrderedDict[bytes, Principal] = OrderedDict()

    def verify(self, token: str) -> Principal:
        """Return the principal; whether it has expired since is asked of `expires_at`.

        Raises:
            CredentialsInvalid, CredentialsExpired: the token is not good.
        """
        digest = digest_of(token)
        principal = self._known.pop(digest, None) or _principal_of(self._decode(token))
        self._known[digest] = principal
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return principal

    def _decode(self, token: str) -> Mapping[str, Any]:
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=[self.algorithm],
                audience=self._audience,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "aud"]},
            )
        except _BAD as error:
            raise _refusal(error) from None
        return claims


def load_verifier(path: Path, audience: str) -> TokenVerifier:
    """Return a verifier with the key in a file: a public key in PEM, or else a secret.

    RSA means RS256, the curve P-256 means ES256, a secret means HS256; a line break at its end does
    not belong to it, nor a byte order mark at its beginning.

    Raises:
        StartError: there is no such file, or no such key in it.
    """
    content = read_file(path)
    # Whoever has a public key could sign with it if it were taken for a secret.
    if is_key(content) or _is_jwk(content):
        return TokenVerifier(*_load_public_key(path, content), audience)
    secret = _secret_of(content)
    if len(secret) < _LEAST_SECRET:
        raise StartError(
            f"the secret in {shown(path)} is too short: it needs {_LEAST_SECRET} bytes"
        )
    return TokenVerifier(secret, "HS256", audience)


def _secret_of(content: bytes) -> bytes:
    """Return a secret: bytes of any kind, or a text in UTF-8, of which Windows writes more."""
    for mark, encoding in _MARKS.items():
        with contextlib.suppress(UnicodeDecodeError):
            if content.startswith(mark):
                text = content.decode(encoding).rstrip("\r\n")
                if text.isprintable():  # else they are bytes that begin with a mark by chance
                    return text.encode()
    return content.rstrip(b"\r\n")


def _is_jwk(content: bytes) -> bool:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(parsed, dict) and not parsed.keys().isdisjoint(("kty", "keys"))


def _load_public_key(
    path: Path, content: bytes
) -> tuple[RSAPublicKey | EllipticCurvePublicKey, str]:
    try:
        key = read_public_key(content)
    except PemError as error:
        raise StartError(f"{shown(path)} {error}") from error
    if isinstance(key, RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return key, "RS256"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key, "ES256"
    raise StartError(
        f"the public key in {shown(path)} is neither RSA of 2048 bits or more nor P-256"
    )


def _refusal(error: Exception) -> CredentialsError:
    if isinstance(error, jwt.ExpiredSignatureError):
        return CredentialsExpired("the token has expired")
    return CredentialsInvalid(_FAULTS.get(type(error), "the token is malformed"))


def _principal_of(claims: Mapping[str, Any]) -> Principal:
    words = claims.get("scope", "")
    if not isinstance(words, str):
        raise CredentialsInvalid("the token's claim 'scope' is no text")
    subject = claims.get("sub")
    return Principal(
        name=_name(subject),
        identity=f"token of {subject}" if subject else None,
        scopes=frozenset(scope for scope in Scope if scope in words.split()),
        visible=_visible(claims.get("datasets", [])),
        expires_at=(int(claims["exp"]) + _LEEWAY_S) * SECOND_US,
    )


def _visible(claim: object) -> Visibility:
    if not isinstance(claim, list):
        raise CredentialsInvalid("the token's claim 'datasets' is no list")
    if _EVERY_DATASET in claim:
        return ALL
    dataset_ids = [isinstance(one, str) and canonical_uuid(one) for one in claim]
    if not all(dataset_ids):
        raise CredentialsInvalid("the token's claim 'datasets' has an entry that is no UUID")
    return Visibility(frozenset(one for one in dataset_ids if one))


def _name(subject: object) -> str:
    if isinstance(subject, str) and is_printable(subject) and 0 < len(subject) <= _MAX_NAME:
        return f"token of {subject}"
    return "a token"
