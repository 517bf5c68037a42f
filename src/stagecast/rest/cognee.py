"""Cognee's path: the state of datasets.

Clients request some datasets, or all that they may read, and take a missing one for *not yet*.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stagecast.auth import Authenticator, bearer_of
from stagecast.errors import CredentialsError, DeniedError
from stagecast.grace import Grace
from stagecast.model import Caller, Dataset, DatasetState, Visibility, dataset_state
from stagecast.notifier import Notifier, Topic
from stagecast.rest.content import Body, Content, respond
from stagecast.rest.endpoint import Endpoint
from stagecast.rest.response_cache import ResponseCache
from stagecast.rest.uuids import InvalidUuid, parse_uuid
from stagecast.service.queries import Queries

PATH = "/api/v1/datasets/status"

_STATUSES = {
    DatasetState.PENDING: "DATASET_PROCESSING_INITIATED",
    DatasetState.RUNNING: "DATASET_PROCESSING_STARTED",
    DatasetState.SUCCEEDED: "DATASET_PROCESSING_COMPLETED",
    DatasetState.FAILED: "DATASET_PROCESSING_ERRORED",
}


class DatasetsStatus(Endpoint):
    """Returns the state of the named datasets, or of all."""

    # The real server does not support HEAD.
    methods = ("GET",)

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

    def credentials(self, request: Request) -> Sequence[str]:
        """Return the API keys, then the bearer tokens; one valid credential is enough."""
        headers = request.headers
        bearers = map(bearer_of, headers.getlist("authorization"))
        return (*headers.getlist("x-api-key"), *filter(None, bearers))

    async def answer(self, request: Request, caller: Caller) -> Response:
        """Return the states by id, in the order of the ids; or 422 with the invalid UUIDs."""
        # Shared by all callers with the same visible datasets.
        query = (caller.visible, request.scope["query_string"])
        content = self._cache.find(query)
        if content is None:
            dataset_ids, errors = _read_ids(request.query_params.getlist("dataset"))
            if errors:
                return JSONResponse({"detail": errors}, status_code=422)
            topics: list[Topic] = [(dataset_id,) for dataset_id in dataset_ids] or [()]
            content = await self._cache.make(
                query, topics, partial(self._render, dataset_ids, caller.visible)
            )
        return respond(request, content)

    async def _render(self, dataset_ids: frozenset[str], visible: Visibility) -> Content:
        datasets = await self._queries.find_datasets(dataset_ids or None, visible=visible)
        return Body().end(orjson.dumps(_statuses(datasets)))

    def error_response(self, error: Exception) -> Response:
        """Return the response for an error; one body for every failure of the server."""
        if isinstance(error, HTTPException):
            return JSONResponse(
                {"detail": error.detail}, status_code=error.status_code, headers=error.headers
            )
        if isinstance(error, CredentialsError):
            return JSONResponse({"detail": "Unauthorized"}, status_code=401)
        if isinstance(error, DeniedError):
            return JSONResponse({"detail": "Forbidden"}, status_code=403)
        return JSONResponse({"error": "Unable to retrieve dataset statuses."}, status_code=500)


def _read_ids(values: Sequence[str]) -> tuple[frozenset[str], list[dict[str, object]]]:
    """Return the ids in canonical form, and a validation error for each invalid value."""
    dataset_ids: set[str] = set()
    errors: list[dict[str, object]] = []
    for index, value in enumerate(values):
        try:
            dataset_ids.add(parse_uuid(value))
        except InvalidUuid as error:
            errors.append(_validation_error(error, index, value))
    return frozenset(dataset_ids), errors


def _validation_error(error: InvalidUuid, index: int, value: str) -> dict[str, object]:
    """Return an entry of `HTTPValidationError`, with the keys in pydantic's order."""
    return {
        "type": "uuid_parsing",
        "loc": ["query", "dataset", index],
        "msg": f"Input should be a valid UUID, {error}",
        "input": value,
        "ctx": {"error": str(error)},
    }


def _statuses(datasets: Sequence[Dataset]) -> dict[str, str]:
    return {
        dataset.dataset_id: _STATUSES[dataset_state(dataset)]
        for dataset in datasets
        if dataset.batches
    }
