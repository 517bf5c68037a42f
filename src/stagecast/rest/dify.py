"""Dify's path: the progress of the documents of a batch.

Existing clients poll it until each document is `completed` or `error`.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import orjson
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from stagecast.auth import Authenticator, bearer_of
from stagecast.errors import (
    BatchNotFound,
    CredentialsError,
    DatasetNotFound,
    DeniedError,
    Unavailable,
)
from stagecast.grace import Grace
from stagecast.model import (
    ALL,
    SECOND_US,
    Batch,
    Caller,
    Document,
    DocumentState,
    Stage,
    canonical_uuid,
    size_bound,
    take_page,
)
from stagecast.rest.content import Body, Content
from stagecast.rest.endpoint import Endpoint
from stagecast.rest.large_bodies import LargeBodies
from stagecast.store import BatchName, ReadTransaction, Store, get_batch, get_dataset

PREFIX = "/v1"  # errors of unknown paths below it have the same style
PATH = PREFIX + "/datasets/{dataset_id}/documents/{batch}/indexing-status"
PATTERN = re.compile(r"/v1/datasets/([^/]+)/documents/([^/]+)/indexing-status")

_PAGE = 1_000  # documents rendered in one read: some 20 ms
_FEW = 10  # documents that are read on the event loop: within 0.2 ms
_BEGIN, _END = b'{"data":[', b"]}"

# Messages of the real server for a bad `Authorization` header.
_NO_BEARER = "Authorization header must be provided and start with 'Bearer'"
_OTHER_SCHEME = "Authorization scheme must be 'Bearer'"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="api"'}

# Status, code and message of each error; those of a bug are the real server's.
_ERRORS: dict[type[Exception], tuple[int, str, str]] = {
    CredentialsError: (401, "unauthorized", "Access token is invalid"),
    DeniedError: (403, "forbidden", "The access token does not allow this."),
    DatasetNotFound: (404, "not_found", "Dataset not found."),
    BatchNotFound: (404, "not_found", "Documents not found."),
    HTTPException: (405, "method_not_allowed", "The method is not allowed for the requested URL."),
    Unavailable: (503, "service_unavailable", "Try again later."),
    Exception: (500, "unknown", "Internal Server Error"),
}

# The real server's message for any other path below `/v1`, which needs no credentials.
_NO_PATH = (
    "The requested URL was not found on the server. "
    "If you entered the URL manually please check your spelling and try again."
)

# Known clients stop polling on `completed` and `error` only.
_STAGES = {stage: stage.name.lower() for stage in Stage}
_STATES = {
    DocumentState.PAUSED: "paused",
    DocumentState.FAILED: "error",
    DocumentState.STOPPED: "error",
}


@dataclass(frozen=True, slots=True)
class _Documents:
    """The documents of a batch."""

    name: BatchName

    @property
    def ids(self) -> int:
        return len(self.name)

    def head(self, tx: ReadTransaction) -> Hashable:
        return tx.find_heads([self.name]).get(self.name)

    def render_small(self, tx: ReadTransaction) -> Content | None:
        page = self.render_page(None, -1, tx, limit=_FEW)
        return _whole(page) if page.last is None else None

    def render_page(
        self, start: Batch | None, after: int, tx: ReadTransaction, *, limit: int = _PAGE
    ) -> _Page:
        """Render documents after a position, as of the revision of the first page.

        Raises:
            DatasetNotFound, BatchNotFound: it does not exist, or was deleted meanwhile; also for a
                batch without documents, as clients know no other error for that.
        """
        get_dataset(tx, self.name[0])
        batch = get_batch(tx, *self.name)
        start = start or batch
        if batch.key != start.key:
            raise BatchNotFound(*self.name)
        documents, following = take_page(
            tx.iterate_documents(batch, after_position=after, as_of=start.revision),
            size_bound,
            limit=limit,
        )
        if not documents:
            raise BatchNotFound(*self.name)
        entries = orjson.dumps([_entry(document) for document in documents])[1:-1]
        return _Page(start, documents[-1].position if following else None, entries)


@dataclass(frozen=True, slots=True)
class _Page:
    """Rendered documents; `last` is the position of the last one if there are more."""

    start: Batch
    last: int | None
    entries: bytes


class IndexingStatus(Endpoint[BatchName]):
    """Returns all documents of a batch, in the order of registration."""

    methods = ("GET", "HEAD")

    def __init__(
        self, store: Store, authenticator: Authenticator, *, store_s: float, grace: Grace
    ) -> None:
        super().__init__(store, authenticator, store_s=store_s, grace=grace)
        self._large_bodies = LargeBodies()

    def credentials(self, headers: Headers) -> Sequence[str]:
        """Return the key or token.

        Raises:
            HTTPException: the header is missing or malformed.
        """
        header = headers.get("authorization", "").strip()
        if " " not in header:
            raise HTTPException(401, _NO_BEARER, _CHALLENGE)
        credential = bearer_of(header)
        if credential is None:
            raise HTTPException(401, _OTHER_SCHEME, _CHALLENGE)
        return (credential,)

    def key(self, scope: Scope, caller: Caller) -> BatchName:
        """Return the ids, which all callers share to whom the dataset is visible.

        Raises:
            DatasetNotFound: the id is malformed, or the dataset is not visible.
        """
        dataset_id, batch_id = scope["path_params"]
        canonical = canonical_uuid(dataset_id)
        if canonical is None or not caller.visible.includes(canonical):
            raise DatasetNotFound(dataset_id)
        return canonical, batch_id

    async def read(
        self, key: BatchName, caller: Caller, version: int, sending: contextlib.AsyncExitStack
    ) -> Content:
        """Read the documents: of a small batch at once, of a large one within the memory budget.

        Raises:
            DatasetNotFound, BatchNotFound: it does not exist; also for a batch without documents.
        """
        query = _Documents(key)
        if key in self._large_bodies:  # so its first page is not needed
            head = await self.store.read(query.head, visible=caller.visible)
        else:
            head, page = await self.store.read(
                lambda tx: (query.head(tx), query.render_page(None, -1, tx)), visible=caller.visible
            )
            if page.last is None:
                content = _whole(page)
                self.cache.keep(key, query, version, head, content)
                return content
        content = await sending.enter_async_context(
            self._large_bodies.shared(key, head, partial(self._render, query))
        )
        self.cache.keep(key, query, version, head, content)
        return content

    def error_response(self, error: Exception) -> Response:
        """Return the response for an error."""
        status, code, message = next(_ERRORS[base] for base in type(error).mro() if base in _ERRORS)
        if isinstance(error, HTTPException) and error.status_code == 401:
            status, code, message = 401, "unauthorized", error.detail
        return envelope(status, code, message, _headers(error))

    async def _render(self, query: _Documents) -> Content:
        """Render page by page on a thread of the store, where no transaction stays open."""
        page = await self.store.read(partial(query.render_page, None, -1), visible=ALL)
        body = Body()
        body.add(_BEGIN + page.entries)
        while page.last is not None:
            page = await self.store.read(
                partial(query.render_page, page.start, page.last), visible=ALL
            )
            body.add(b"," + page.entries)
        return body.end(_END)


def _whole(page: _Page) -> Content:
    return Body().end(_BEGIN + page.entries + _END)


def envelope(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error in the format of the real server."""
    envelope = {"status": status, "code": code, "message": message}
    return JSONResponse(envelope, status_code=status, headers=headers)


UNKNOWN_PATH = envelope(404, "not_found", _NO_PATH)


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, CredentialsError):
        return _CHALLENGE
    if isinstance(error, Unavailable):
        return {"Retry-After": str(math.ceil(error.retry_after_s))}
    if isinstance(error, HTTPException):
        return dict(error.headers or {})
    return {}


def _entry(document: Document) -> dict[str, object]:
    """Return the twelve keys of Dify's documentation, in order."""
    return {
        "id": document.document_id,
        "indexing_status": _STATES.get(document.state) or _STAGES[document.stage],
        "processing_started_at": _seconds(document.processing_started_at),
        "parsing_completed_at": _seconds(document.parsing_completed_at),
        "cleaning_completed_at": _seconds(document.cleaning_completed_at),
        "splitting_completed_at": _seconds(document.splitting_completed_at),
        "completed_at": _seconds(document.completed_at),
        "paused_at": _seconds(document.paused_at),
        "error": _error_text(document),
        "stopped_at": _seconds(document.stopped_at),
        "completed_segments": document.progress.completed_segments,
        "total_segments": document.progress.total_segments or 0,
    }


def _seconds(microseconds: int | None) -> int | None:
    return None if microseconds is None else microseconds // SECOND_US


def _error_text(document: Document) -> str | None:
    if document.state is DocumentState.STOPPED:
        return "Stopped."
    if document.error is None:
        return None
    return document.error.message or document.error.reason
