"""Resume tokens and page tokens: opaque to clients, validated here.

A token is base64url text: a version, a payload, and a checksum against typing errors.
Tokens grant no access. The payload of page tokens is encrypted all the same: row keys reveal the
number of rows, including those that the caller cannot see.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import struct
import zlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from stagecast.errors import FieldInvalid, TokenInvalid
from stagecast.escaping import quote

_VERSION = b"\x01"
_DIGEST_BYTES = 8
_RESUME = struct.Struct(">8sqqqq")


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeToken:
    """The position of a watch in the history of a batch.

    `revision` is the last transition sent, `write_id` the random number of its call, which
    identifies the history. `progress_seq` is the last change of counters sent, `server_epoch` the
    number of the server that made it, which identifies the history of counters.
    """

    dataset_id: str
    batch_id: str
    revision: int
    write_id: int
    progress_seq: int
    server_epoch: int

    def encode(self) -> str:
        """Return the text for the client."""
        digest = _digest(self.dataset_id, self.batch_id)
        return _pack(
            _RESUME.pack(digest, self.revision, self.write_id, self.progress_seq, self.server_epoch)
        )

    @classmethod
    def decode(cls, text: str, *, dataset_id: str, batch_id: str) -> ResumeToken:
        """Decode the token of a request for a batch.

        Raises:
            TokenInvalid: it is malformed, or of another batch.
        """
        payload = _unpack(text)
        if payload is None or len(payload) != _RESUME.size:
            raise TokenInvalid(
                "resume_token",
                "malformed; pass the last token received, or none",
                dataset_id=dataset_id,
                batch_id=batch_id,
            )
        digest, revision, write_id, progress_seq, server_epoch = _RESUME.unpack(payload)
        if digest != _digest(dataset_id, batch_id):
            raise TokenInvalid(
                "resume_token",
                f"does not belong to batch {quote(batch_id)} of dataset {quote(dataset_id)}",
                dataset_id=dataset_id,
                batch_id=batch_id,
            )
        return cls(
            dataset_id=dataset_id,
            batch_id=batch_id,
            revision=revision,
            write_id=write_id,
            progress_seq=progress_seq,
            server_epoch=server_epoch,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PageToken:
    """Where in a list the next page begins, and the resume token of the first page.

    `after` is the number or id of the last item of the previous page.
    A token is valid for the same query and secret only.
    """

    after: str
    resume_token: str = ""

    def encode(self, secret: bytes, *query: object) -> str:
        """Return the text for the client, encrypted with the secret."""
        payload = json.dumps([self.after, self.resume_token], separators=(",", ":"))
        return _pack(AESSIV(secret).encrypt(payload.encode(), [repr(query).encode()]))

    @classmethod
    def decode(cls, text: str, secret: bytes, *query: object) -> PageToken:
        """Decode the token of a request with a query.

        Raises:
            FieldInvalid: it is malformed, or of another query or secret.
        """
        encrypted = _unpack(text)
        if not encrypted:
            raise FieldInvalid("page_token", "malformed")
        try:
            payload = AESSIV(secret).decrypt(encrypted, [repr(query).encode()])
        except InvalidTag:
            raise FieldInvalid(
                "page_token", "belongs to a request with other ids or filters, or to another store"
            ) from None
        after, resume_token = json.loads(payload)
        return cls(after=after, resume_token=resume_token)


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()[:_DIGEST_BYTES]


def _pack(payload: bytes) -> str:
    body = _VERSION + payload
    checksum = zlib.crc32(body).to_bytes(4, "big")
    return base64.urlsafe_b64encode(body + checksum).decode().rstrip("=")


def _unpack(text: str) -> bytes | None:
    """Return the payload of a token, or `None` if it is malformed."""
    try:
        raw = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    # Encoded again and compared: the last letter has unused bits.
    payload = raw[len(_VERSION) : -4]
    return payload if _pack(payload) == text else None
