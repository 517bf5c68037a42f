"""The format of a key: `stagecast_` prefix `_` secret checksum.

The prefix is public and identifies the key in lists, logs and messages. The checksum lets secret
scanners tell real keys from lookalikes:

    stagecast_[0-9a-z]{8}_[0-9A-Za-z]{38}     the last six: CRC-32 of all before, in base 62
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

_KEY = re.compile(r"(stagecast_[0-9a-z]{8})_[0-9A-Za-z]{38}", re.ASCII)
_BASE36 = string.digits + string.ascii_lowercase
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PREFIX = 8
_SECRET = 32  # characters of base 62: 190 bits
_CHECKSUM = 6


def make_key() -> str:
    """Return a new key."""
    prefix = "".join(secrets.choice(_BASE36) for _ in range(_PREFIX))
    secret = "".join(secrets.choice(_BASE62) for _ in range(_SECRET))
    body = f"stagecast_{prefix}_{secret}"
    return body + _checksum(body)


def prefix_of(text: str) -> str | None:
    """Return the public prefix of a key; `None` if the text is not a key."""
    match = _KEY.fullmatch(text)
    if match is None or _checksum(text[:-_CHECKSUM]) != text[-_CHECKSUM:]:
        return None
    return match[1]


def digest_of(key: str) -> bytes:
    """Return the SHA-256 of a key. A key has too many bits to be guessed, so it needs no salt."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits
