"""Tokens that clients keep and give back: opaque to them, checked here.

A token is base64url text: a version, what it says, and a checksum that catches a slip of the hand.
Tokens grant nothing. What a page token says is sealed all the same: the keys of rows tell how many
there are, also of what the caller may not see.
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
    """Where in which history a watch is.

    `revision` is the last transition that was sent, `call` the random number of the call that made
    it, by which its history is known again. `serial` is how far counters were sent, and `mark` the
    number of the server that had counted last, by which their history is known again.
    """

    dataset_id: str
    batch_id: str
    revision: int
    write_id: int
    progress_seq: int
    server_epoch: int

    def encode(self) -> str:
        """Return the text for the client."""
        about = _digest(self.dataset_id, self.batch_id)
        return _pack(
            _RESUME.pack(about, self.revision, self.write_id, self.progress_seq, self.server_epoch)
        )

    @classmethod
    def decode(cls, text: str, *, dataset_id: str, batch_id: str) -> ResumeToken:
        """Read a token that is given for a batch.

        Raises:
            TokenInvalid: it is malformed, or of another batch.
        """
        payload = _unpack(text)
        if payload is None or len(payload) != _RESUME.size:
            raise TokenInvalid(
                "resume_token",
                "malformed; give back the last one received, or none",
                dataset_id=dataset_id,
                batch_id=batch_id,
            )
        about, revision, write_id, progress_seq, server_epoch = _RESUME.unpack(payload)
        if about != _digest(dataset_id, batch_id):
            raise TokenInvalid(
                "resume_token",
                f"not of batch {quote(batch_id)} of dataset {quote(dataset_id)}",
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
    """Where in a list the next page begins, and what the first page said.

    `after` is the last thing of the page before: its number or id in the order of the list.
    It goes with the same question and secret only.
    """

    after: str
    resume_token: str = ""

    def encode(self, secret: bytes, *question: object) -> str:
        """Return the text for the client, which tells nothing to who does not know the secret."""
        said = json.dumps([self.after, self.resume_token], separators=(",", ":"))
        return _pack(AESSIV(secret).encrypt(said.encode(), [repr(question).encode()]))

    @classmethod
    def decode(cls, text: str, secret: bytes, *question: object) -> PageToken:
        """Read a token that is given with a question.

        Raises:
            FieldInvalid: it is malformed, or of another question or secret.
        """
        sealed = _unpack(text)
        if not sealed:
            raise FieldInvalid("page_token", "malformed")
        try:
            said = AESSIV(secret).decrypt(sealed, [repr(question).encode()])
        except InvalidTag:
            raise FieldInvalid(
                "page_token", "belongs to a request with other ids or filters, or to another store"
            ) from None
        after, resume_token = json.loads(said)
        return cls(after=after, resume_token=resume_token)


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()[:_DIGEST_BYTES]


def _pack(payload: bytes) -> str:
    body = _VERSION + payload
    checksum = zlib.crc32(body).to_bytes(4, "big")
    return base64.urlsafe_b64encode(body + checksum).decode().rstrip("=")


def _unpack(text: str) -> bytes | None:
    """Return what a token says, or `None` if it was never one."""
    try:
        raw = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    # Made again and compared: the last letter has bits that say nothing.
    payload = raw[len(_VERSION) : -4]
    return payload if _pack(payload) == text else None
