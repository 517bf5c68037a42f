"""Paged lists of a server; the next page is fetched on demand."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from itertools import islice
from typing import Protocol, TypeVar

_MAX_PAGE_SIZE = 1_000  # of the server


class _Request(Protocol):
    page_size: int
    page_token: str


class _Response(Protocol):
    next_page_token: str


RequestT = TypeVar("RequestT", bound=_Request)
ResponseT = TypeVar("ResponseT", bound=_Response)
ItemT = TypeVar("ItemT")


async def pages(
    call: Callable[[RequestT], Awaitable[ResponseT]],
    request: RequestT,
    items_of: Callable[[ResponseT], Iterable[ItemT]],
    *,
    limit: int | None = None,
) -> AsyncGenerator[list[ItemT]]:
    """Yield the items of each page of a list, at most `limit` in all."""
    left = sys.maxsize if limit is None else limit
    while left > 0:
        request.page_size = min(left, _MAX_PAGE_SIZE)
        page = await call(request)
        items = list(islice(items_of(page), left))
        yield items
        request.page_token = page.next_page_token
        if not request.page_token:
            return
        left -= len(items)
