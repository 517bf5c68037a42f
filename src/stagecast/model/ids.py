"""Formats of ids, and generation of those that a caller leaves out."""

from __future__ import annotations

import random
import re
import uuid
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
