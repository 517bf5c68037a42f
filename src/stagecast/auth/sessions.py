"""Sessions of browsers: what a cookie holds instead of a key.

A session of a key contains the key and the time of its end, encrypted with a secret that is made
from the key's digest. So the server stores nothing for it; it is valid in every process and after a
restart, and ends with its key. The cookie alone does not reveal the key, as the digest is in the
store; and the digests in the store are not enough to make a session, which takes the key.

A token of an external signer is the session itself: it expires soon anyway.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stagecast.auth.key_cache import KeyCache
from stagecast.auth.secret import digest_of
from stagecast.errors import CredentialsExpired, CredentialsInvalid
from stagecast.model import SECOND_US, ApiKey

LIFE_S = 12 * 3600  # a working day
MAX_CHARACTERS = 3_500  # browsers drop cookies over 4 KiB silently

_KEY, _TOKEN = "k", "t"  # kinds of sessions
_NONCE_BYTES, _TIME_BYTES = 12, 8


class Sessions:
    """Makes sessions from credentials, and credentials from sessions.

    Args:
        key_cache: the keys.
        clock: microseconds since the epoch.
    """

    def __init__(self, key_cache: KeyCache, *, clock: Callable[[], int]) -> None:
        self._key_cache = key_cache
        self._clock = clock

    def begin(self, credential: str) -> str:
        """Return a session for a credential that was checked before.

        Raises:
            CredentialsInvalid: it is a token that is too long for a cookie.
        """
        key = self._key_cache.find(digest_of(credential))
        if key is not None:
            return f"{_KEY}.{key.id}.{self._seal(key, credential)}"
        if len(credential) > MAX_CHARACTERS:
            raise CredentialsInvalid(
                f"the token is too long for a cookie: {len(credential)} characters; the limit is "
                f"{MAX_CHARACTERS}"
            )
        return f"{_TOKEN}.{credential}"

    def open(self, session: str) -> str:
        """Return the credential of a session, which may have expired or been revoked meanwhile.

        Raises:
            CredentialsInvalid: the session is malformed, forged, or of a key that is gone.
            CredentialsExpired: it has ended.
        """
        kind, _, rest = session.partition(".")
        if kind == _TOKEN:
            return rest
        key_id, _, sealed = rest.partition(".")
        self._key_cache.refresh()
        valid_id = key_id.isascii() and key_id.isdigit() and len(key_id) < 19
        key = self._key_cache.get(int(key_id)) if kind == _KEY and valid_id else None
        if key is None:
            raise CredentialsInvalid("unknown session")
        return self._unseal(key, sealed)

    def _seal(self, key: ApiKey, credential: str) -> str:
        ends_at = self._clock() + LIFE_S * SECOND_US
        plain = ends_at.to_bytes(_TIME_BYTES, "big") + credential.encode()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return base64.urlsafe_b64encode(nonce + _cipher(key).encrypt(nonce, plain, None)).decode()

    def _unseal(self, key: ApiKey, sealed: str) -> str:
        try:
            raw = base64.b64decode(sealed.encode(), altchars=b"-_", validate=True)
            plain = _cipher(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None)
        except (binascii.Error, UnicodeEncodeError, ValueError, InvalidTag) as error:
            raise CredentialsInvalid("malformed session") from error
        if self._clock() >= int.from_bytes(plain[:_TIME_BYTES], "big"):
            raise CredentialsExpired("the session has ended; sign in again")
        return plain[_TIME_BYTES:].decode()


def forgery_token(session: str) -> str:
    """Return what a page of ours must send along with a change, and no other page can know."""
    return hashlib.sha256(b"stagecast forgery token " + session.encode()).hexdigest()


def _cipher(key: ApiKey) -> AESGCM:
    return AESGCM(hmac.digest(key.digest, b"stagecast session", "sha256"))
