"""Tokens (JWT) of an external signer, which shares a secret with us or whose public key we have.

The algorithm follows from the kind of the key, never from the header of a token. So `none` is
never accepted, nor an HMAC made with a public key.
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

_LEEWAY_S = 30  # maximum difference between clocks
_MIN_SECRET_BYTES, _MIN_RSA_BITS = 32, 2_048
_MAX_NAME = 100
_MAX_CACHED = 1_000
_EVERY_DATASET = "*"
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

# The message for an invalid token; any other fault means that it is malformed.
_MESSAGES: dict[type[Exception], str] = {
    jwt.InvalidSignatureError: "invalid token: not signed with the key of this server",
    jwt.InvalidAlgorithmError: "invalid token: not signed with the algorithm of this server",
    jwt.InvalidAudienceError: "invalid token: wrong audience (claim 'aud')",
    jwt.ImmatureSignatureError: "invalid token: not valid yet (claims 'nbf' and 'iat')",
    jwt.MissingRequiredClaimError: "invalid token: the claims 'exp' and 'aud' are required",
}
# The last two only after a valid signature: numbers out of range, JSON nested too deeply.
_INVALID = (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError)


class TokenVerifier:
    """Verifies tokens, and returns their principals.

    The claims: `aud` and `exp`, required; `scope`, words separated by spaces; `datasets`, a list
    of ids, where `*` means all; `sub`, a name for logs. A token without `scope` allows nothing; to
    one without `datasets`, no dataset is visible.

    Args:
        key: verifies the signatures.
        algorithm: of the signatures.
        audience: the required value of `aud`.
    """

    def __init__(
        self, key: bytes | RSAPublicKey | EllipticCurvePublicKey, algorithm: str, audience: str
    ) -> None:
        self.algorithm = algorithm
        self._key = key
        self._audience = audience
        # Checking a signature takes longer than the rest of a poll.
        self._cache: OrderedDict[bytes, Principal] = OrderedDict()

    def verify(self, token: str) -> Principal:
        """Return the principal, from the cache if possible; so check its `expires_at` afterwards.

        Raises:
            CredentialsInvalid, CredentialsExpired: the token is not valid.
        """
        digest = digest_of(token)
        principal = self._cache.pop(digest, None) or _principal_of(self._decode(token))
        self._cache[digest] = principal
        if len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)
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
        except _INVALID as error:
            raise _error_for(error) from None
        return claims


def load_verifier(path: Path, audience: str) -> TokenVerifier:
    """Return a verifier with the key in a file: a public key in PEM, or else a secret.

    RSA means RS256, the curve P-256 means ES256, a secret means HS256. A line break at the end of a
    secret and a byte order mark at its beginning are ignored.

    Raises:
        StartError: the file cannot be read, or holds no such key.
    """
    content = read_file(path)
    # A public key used as a secret would let everybody sign.
    if is_key(content) or _is_jwk(content):
        return TokenVerifier(*_load_public_key(path, content), audience)
    secret = _secret_of(content)
    if len(secret) < _MIN_SECRET_BYTES:
        raise StartError(
            f"the secret in {shown(path)} is too short: {len(secret)} bytes, "
            f"at least {_MIN_SECRET_BYTES} are required"
        )
    return TokenVerifier(secret, "HS256", audience)


def _secret_of(content: bytes) -> bytes:
    """Return a secret: any bytes, or the UTF-8 of a text file as Windows saves it."""
    for bom, encoding in _BOMS.items():
        with contextlib.suppress(UnicodeDecodeError):
            if content.startswith(bom):
                text = content.decode(encoding).rstrip("\r\n")
                if text.isprintable():  # otherwise random bytes that begin like one
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
        f"unsupported public key in {shown(path)}; use RSA with at least {_MIN_RSA_BITS} bits or "
        "ECDSA with P-256"
    )


def _error_for(error: Exception) -> CredentialsError:
    if isinstance(error, jwt.ExpiredSignatureError):
        return CredentialsExpired("the token has expired")
    return CredentialsInvalid(_MESSAGES.get(type(error), "malformed token"))


def _principal_of(claims: Mapping[str, Any]) -> Principal:
    words = claims.get("scope", "")
    if not isinstance(words, str):
        raise CredentialsInvalid("invalid token: claim 'scope' must be a string")
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
        raise CredentialsInvalid("invalid token: claim 'datasets' must be a list")
    if _EVERY_DATASET in claim:
        return ALL
    dataset_ids = [isinstance(one, str) and canonical_uuid(one) for one in claim]
    if not all(dataset_ids):
        raise CredentialsInvalid("invalid token: claim 'datasets' must hold UUIDs only")
    return Visibility(frozenset(one for one in dataset_ids if one))


def _name(subject: object) -> str:
    if isinstance(subject, str) and is_printable(subject) and 0 < len(subject) <= _MAX_NAME:
        return f"token of {subject}"
    return "a token"
