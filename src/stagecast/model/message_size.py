"""Upper bounds of the encoded size of records, without encoding them.

A gRPC client refuses messages over 4 MiB by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from stagecast.model.records import Batch, Document

T = TypeVar("T")

MESSAGE_BYTES = 1 << 20  # messages are filled to this, well below the clients' limit

_FIXED = 512  # ids, enums, counters and times, with their tags
_PER_CHARACTER = 4  # of UTF-8
_PER_LABEL = 4  # each pair is a nested message with two tags and lengths


def size_bound(document: Document | None) -> int:
    """Return the maximum size in bytes of a document, or of a transition with it."""
    if document is None:
        return _FIXED
    texts = (
        len(document.document_id)
        + len(document.batch_id)
        + len(document.display_name)
        + len(document.worker)
    )
    if document.error is not None:
        texts += len(document.error.reason) + len(document.error.message)
    if document.labels:
        texts += _characters(document.labels)
    return _FIXED + _PER_CHARACTER * texts


def batch_size_bound(batch: Batch) -> int:
    """Return the maximum size in bytes of a batch."""
    return _FIXED + _PER_CHARACTER * (len(batch.batch_id) + _characters(batch.labels))


def take_page(
    items: Iterable[T], size_of: Callable[[T], int], *, limit: int
) -> tuple[list[T], T | None]:
    """Take items until a message is full or `limit` is reached.

    Returns:
        The page, with at least one item if there is any, and the next item, which is consumed as
        well; `None` at the end.
    """
    page: list[T] = []
    size = 0
    for item in items:
        size += size_of(item)
        if page and (len(page) == limit or size > MESSAGE_BYTES):
            return page, item
        page.append(item)
    return page, None


def _characters(labels: Mapping[str, str]) -> int:
    return sum(len(key) + len(value) + _PER_LABEL for key, value in labels.items())
