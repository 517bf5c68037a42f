"""Formats of ids, and generation of those that a caller leaves out."""

from __future__ import annotations

import random
import re
import unicodedata
import uuid
from collections.abc import Container, Iterable
from datetime import UTC, datetime

from stagecast.model.records import SECOND_US

BATCH_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def canonical_uuid(text: str) -> str | None:
    """Return a dashed UUID in lower case, or `None` if the text is not one."""
    lowered = text.lower()
    return lowered if _UUID.fullmatch(lowered) else None


def make_document_id() -> str:
    """Return a random UUID."""
    return str(uuid.uuid4())


def make_batch_id(now: int) -> str:
    """Return an id like `20261122093015482913`: the time in UTC and six random digits.

    It may exist already; the caller then generates another one.
    """
    moment = datetime.fromtimestamp(now / SECOND_US, UTC)
    return f"{moment:%Y%m%d%H%M%S}{random.randrange(10**6):06}"  # noqa: S311 - an id, not a secret


def other_forms(document_id: str) -> dict[str, str]:
    """Return the ids that differ from this one only in Unicode normalisation, with their form.

    They look the same: file names of macOS are decomposed (NFD), typed text is composed (NFC).
    """
    if document_id.isascii():
        return {}
    forms = {unicodedata.normalize(form, document_id): form for form in ("NFC", "NFD")}
    forms.pop(document_id, None)
    return forms


def with_other_forms(document_ids: Iterable[str]) -> set[str]:
    """Return ids with those that differ from them only in Unicode normalisation."""
    ids = set(document_ids)
    return ids.union(*(other_forms(document_id) for document_id in ids))


def find_similar(document_id: str, existing: Container[str]) -> tuple[str, str] | None:
    """Return an existing id that differs from a missing one only in its form, and that form."""
    forms = other_forms(document_id).items()
    return next(((other, form) for other, form in forms if other in existing), None)
