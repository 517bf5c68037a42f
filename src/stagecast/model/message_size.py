"""Upper bounds of the encoded size of records, without encoding them.

A gRPC client refuses messages over 4 MiB by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Generic, TypeVar

from stagecast.model.records import Batch, Dataset, Document

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
    if document.progress.step is not None:
        texts += len(document.progress.step.name)
    if document.labels:
        texts += _characters(document.labels)
    return _FIXED + _PER_CHARACTER * texts


def batch_size_bound(batch: Batch) -> int:
    """Return the maximum size in bytes of a batch."""
    return _FIXED + _PER_CHARACTER * (len(batch.batch_id) + _characters(batch.labels))


def dataset_size_bound(dataset: Dataset) -> int:
    """Return the maximum size in bytes of a dataset."""
    return _FIXED + _PER_CHARACTER * len(dataset.display_name)


class PageItems(Generic[T]):
    """Iterates once over the items of a page: until a message is full or `limit` is reached.

    There is at least one item, if there are any.

    Attributes:
        last: the last item of the page, once all were taken; `None` without any.
        following: the next item then, which is consumed as well; `None` at the end.
    """

    def __init__(self, items: Iterable[T], size_of: Callable[[T], int], *, limit: int) -> None:
        self._items = items
        self._size_of = size_of
        self._limit = limit
        self.last: T | None = None
        self.following: T | None = None

    def __iter__(self) -> Iterator[T]:
        size_of, size, last, items = self._size_of, 0, None, iter(self._items)
        for item in islice(items, self._limit):
            size += size_of(item)
            if size > MESSAGE_BYTES and last is not None:
                self.following = item
                break
            last = item
            yield item
        else:
            self.following = next(items, None)
        self.last = last


def take_page(
    items: Iterable[T], size_of: Callable[[T], int], *, limit: int
) -> tuple[list[T], T | None]:
    """Return the items of a page, and the next item; see `PageItems`."""
    page = PageItems(items, size_of, limit=limit)
    return list(page), page.following


def _characters(labels: Mapping[str, str]) -> int:
    return sum(len(key) + len(value) + _PER_LABEL for key, value in labels.items())
