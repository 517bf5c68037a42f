"""Dify's path: the progress of the documents of a batch.

Existing clients poll it until each document is `completed` or `error`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from functools import partial

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stagecast.auth import Authenticator, bearer_of
from stagecast.errors import (
    BatchNotFound,
    CredentialsError,
    DatasetNotFound,
    DeniedError,
    UnavailableError,
)
from stagecast.grace import Grace
from stagecast.model import SECOND_US, Caller, Document, DocumentState, Stage, canonical_uuid
from stagecast.notifier import Notifier
from stagecast.rest.content import Body, Content, respond
from stagecast.rest.endpoint import Endpoint
from stagecast.rest.large_bodies import LargeBodyBudget
from stagecast.rest.response_cache import Key, ResponseCache
from stagecast.service.queries import Queries
from stagecast.singleflight import SingleFlight
from stagecast.store import BatchName

PREFIX = "/v1"  # errors of unknown paths below it have the same style
PATH = PREFIX + "/datasets/{dataset_id}/documents/{batch}/indexing-status"
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
    UnavailableError: (503, "service_unavailable", "Try again later."),
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


class IndexingStatus(Endpoint):
    """Returns all documents of a batch, in the order of registration."""

    methods = ("GET", "HEAD")

    def __init__(
        self,
        queries: Queries,
        notifier: Notifier,
        authenticator: Authenticator,
        *,
        store_s: float,
        grace: Grace,
    ) -> None:
        super().__init__(authenticator, store_s=store_s, grace=grace)
        self._queries = queries
        self._cache = ResponseCache(notifier)
        self._single_flight: SingleFlight[Content] = SingleFlight()
        self._large_bodies = LargeBodyBudget()

    def credentials(self, request: Request) -> Sequence[str]:
        """Return the key or token.

        Raises:
            HTTPException: the header is missing or malformed.
        """
        header = request.headers.get("authorization", "").strip()
        if " " not in header:
            raise HTTPException(401, _NO_BEARER, _CHALLENGE)
        credential = bearer_of(header)
        if credential is None:
            raise HTTPException(401, _OTHER_SCHEME, _CHALLENGE)
        return (credential,)

    async def answer(self, request: Request, caller: Caller) -> Response:
        """Return the documents.

        Raises:
            DatasetNotFound, BatchNotFound: it does not exist; also for a batch without documents.
        """
        name = _read_name(request.path_params)
        # Shared by all callers to whom the dataset is visible, whatever else is.
        visible = caller.visible.only(name[0])
        query = (visible, request.scope["path"])
        content = self._cache.find(query)
        if content is None:
            content = await self._cache.make(query, [name], partial(self._render, query, name))
        return respond(request, content)

    def error_response(self, error: Exception) -> Response:
        """Return the response for an error."""
        status, code, message = next(_ERRORS[base] for base in type(error).mro() if base in _ERRORS)
        if isinstance(error, HTTPException) and error.status_code == 401:
            status, code, message = 401, "unauthorized", error.detail
        return envelope(status, code, message, _headers(error))

    async def _render(self, query: Key, name: BatchName) -> Content:
        """Return the body: of a small batch at once, of a large one within the memory budget."""
        body = Body()
        render = partial(_render, name, body)
        pages = self._queries.render_documents(*name, render, visible=query[0])
        async with contextlib.aclosing(pages):
            _, complete = await anext(pages)
        if complete:
            return body.end(b"]}")
        return await self._single_flight.do(name, partial(self._make_large, query, name))

    async def _make_large(self, query: Key, name: BatchName) -> Content:
        # Made by a call that has just ended, unless something has changed since.
        cached = self._cache.find(query)
        return cached or await self._large_bodies.make(partial(self._render_large, query, name))

    async def _render_large(self, query: Key, name: BatchName) -> Content:
        body = Body()
        render = partial(_render, name, body)
        async for _ in self._queries.render_documents(*name, render, visible=query[0]):
            pass
        return body.end(b"]}")


def envelope(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error in the format of the real server."""
    envelope = {"status": status, "code": code, "message": message}
    return JSONResponse(envelope, status_code=status, headers=headers)


UNKNOWN_PATH = envelope(404, "not_found", _NO_PATH)


def _read_name(path: Mapping[str, str]) -> BatchName:
    dataset_id = canonical_uuid(path["dataset_id"])
    if dataset_id is None:
        raise DatasetNotFound(path["dataset_id"])
    return dataset_id, path["batch"]


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, CredentialsError):
        return _CHALLENGE
    if isinstance(error, UnavailableError):
        return {"Retry-After": str(math.ceil(error.retry_after_s))}
    if isinstance(error, HTTPException):
        return dict(error.headers or {})
    return {}


def _render(name: BatchName, body: Body, documents: Sequence[Document]) -> None:
    """Add a page to the body; runs on a thread of the store.

    Raises:
        BatchNotFound: the batch has no documents; clients know no other error for that.
    """
    if not documents:
        raise BatchNotFound(*name)
    entries = orjson.dumps([_entry(document) for document in documents])
    body.add((b"," if body.begun else b'{"data":[') + entries[1:-1])


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
