"""`doc.token`: a document, and its attempt if it is open, as a text for another process."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentToken:
    """What another process needs to go on with a document; it holds no key.

    Attributes:
        worker, attempt: of the process that has the document open, if one has.
        address: of the server.
    """

    dataset_id: str
    batch_id: str
    document_id: str
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    worker: str = ""
    attempt: int = 0
    address: str = ""

    def encode(self) -> str:
        """Return the text."""
        fields = {name: value for name, value in asdict(self).items() if value}
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        # With undecodable bytes of file names, which are lone surrogates.
        data = text.encode(errors="surrogatepass")
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> DocumentToken:
        """Return what a text says.

        Raises:
            TypeError: it is not a text.
            ValueError: it is not one of `doc.token`.
        """
        if not isinstance(text, str):
            raise TypeError(f"invalid token {text!r}; use the text of doc.token")
        try:
            fields = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            token = cls(**fields)
        except (ValueError, TypeError, binascii.Error):
            raise ValueError("invalid token: it is not the text of doc.token") from None
        ids = (token.dataset_id, token.batch_id, token.document_id)
        texts = (*ids, token.display_name, token.worker, token.address)
        valid = all(ids) and all(isinstance(each, str) for each in texts)
        if not (valid and isinstance(token.attempt, int) and isinstance(token.labels, Mapping)):
            raise ValueError("invalid token: it is not the text of doc.token")
        return token
