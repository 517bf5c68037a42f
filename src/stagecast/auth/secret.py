"""What a key looks like: `stagecast_` prefix `_` secret checksum.

The prefix is no secret and names the key, in lists, logs and messages. With the checksum, whoever
scans texts for leaked secrets tells a key from what only looks like one:

    stagecast_[0-9a-z]{8}_[0-9A-Za-z]{38}     the last six are the CRC-32 of all before, in base 62
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
    """Return the prefix of a key, which may be shown; `None` if it was never one."""
    match = _KEY.fullmatch(text)
    if match is None or _checksum(text[:-_CHECKSUM]) != text[-_CHECKSUM:]:
        return None
    return match[1]


def digest_of(key: str) -> bytes:
    """Return the SHA-256 of a key. It has too many bits to be guessed, so it needs no salt."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits
