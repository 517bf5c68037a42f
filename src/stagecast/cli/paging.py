"""Lists of a server, page by page, of which the next is fetched when it is wanted."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import islice
from typing import TYPE_CHECKING

from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb

if TYPE_CHECKING:  # the stub of an aio channel; only the types tell it from the other
    from stagecast.v1.status_service_pb2_grpc import StatusServiceAsyncStub

_PAGE = 1_000  # the most that a page may have


async def pages_of_batches(
    status: StatusServiceAsyncStub, request: pb.ListBatchesRequest, *, most: int | None = None
) -> AsyncGenerator[list[r.Batch]]:
    """Yield pages of batches, newest first, until there were `most`."""
    left = most
    while left is None or left > 0:
        request.page_size = _PAGE if left is None else min(left, _PAGE)
        page = await status.ListBatches(request)
        yield list(islice(page.batches, left))
        request.page_token = page.next_page_token
        if not request.page_token:
            return
        left = None if left is None else left - len(page.batches)


async def pages_of_documents(
    status: StatusServiceAsyncStub, request: pb.ListDocumentsRequest
) -> AsyncGenerator[list[r.Document]]:
    """Yield pages of the documents of a batch, in the order in which they were registered."""
    request.page_size = _PAGE
    while True:
        page = await status.ListDocuments(request)
        yield list(page.documents)
        request.page_token = page.next_page_token
        if not request.page_token:
            return


async def pages_of_transitions(
    status: StatusServiceAsyncStub, request: pb.ListTransitionsRequest
) -> AsyncGenerator[list[r.Transition]]:
    """Yield pages of the history of a batch or a document, oldest first."""
    request.page_size = _PAGE
    while True:
        page = await status.ListTransitions(request)
        yield list(page.transitions)
        request.page_token = page.next_page_token
        if not request.page_token:
            return
