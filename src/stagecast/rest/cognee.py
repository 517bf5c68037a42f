"""Cognee's paths: the state of datasets, and since its release 1.6 their progress as well.

Clients request some datasets, or all that they may read, and take a missing one for *not yet*.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeAlias

import orjson
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from stagecast.auth import bearer_of
from stagecast.errors import CredentialsError, DeniedError
from stagecast.model import (
    ALL,
    Batch,
    BatchState,
    Caller,
    Dataset,
    DatasetState,
    TransitionKind,
    Visibility,
    dataset_state,
)
from stagecast.rest.content import Body, Content
from stagecast.rest.endpoint import Endpoint
from stagecast.rest.uuids import InvalidUuid, parse_uuid
from stagecast.store import ReadTransaction

PATH = "/api/v1/datasets/status"
PROGRESS_PATH = PATH + "/progress"

_FEW = 10  # datasets that are read on the event loop: within 0.2 ms

_OPEN = [state for state in BatchState if not state.terminal]
_LAST = 100  # transitions of a batch among which the last stage is looked up

_Key: TypeAlias = tuple[Visibility, bytes]

_STATUSES = {
    DatasetState.PENDING: "DATASET_PROCESSING_INITIATED",
    DatasetState.RUNNING: "DATASET_PROCESSING_STARTED",
    DatasetState.SUCCEEDED: "DATASET_PROCESSING_COMPLETED",
    DatasetState.FAILED: "DATASET_PROCESSING_ERRORED",
}


@dataclass(frozen=True, slots=True)
class _Statuses:
    """The states of some datasets, or of all that are visible."""

    dataset_ids: frozenset[str] | None

    @property
    def ids(self) -> int:
        return len(self.dataset_ids or ())

    @property
    def is_small(self) -> bool:
        return self.dataset_ids is not None and len(self.dataset_ids) <= _FEW

    def head(self, tx: ReadTransaction) -> object:
        """Return a few states themselves: most reports change none."""
        return self.entries(tx) if self.is_small else tx.find_dataset_heads(self.dataset_ids)

    def render_small(self, tx: ReadTransaction) -> Content | None:
        return self.render(tx) if self.is_small else None

    def render(self, tx: ReadTransaction) -> Content:
        return Body().end(orjson.dumps(self.entries(tx)))

    def entries(self, tx: ReadTransaction) -> dict[str, object]:
        return {
            dataset.dataset_id: self.entry(tx, dataset)
            for dataset in tx.iterate_datasets(self.dataset_ids)
            if dataset.batches
        }

    def entry(self, tx: ReadTransaction, dataset: Dataset) -> object:
        return _STATUSES[dataset_state(dataset)]


class _Progress(_Statuses):
    """Their states and their progress, which takes too many reads for the event loop."""

    is_small = False

    def entry(self, tx: ReadTransaction, dataset: Dataset) -> object:
        running = dataset_state(dataset) is DatasetState.RUNNING
        return {
            "status": _STATUSES[dataset_state(dataset)],
            "progress": _progress(tx, dataset) if running else None,
        }


def _progress(tx: ReadTransaction, dataset: Dataset) -> dict[str, object] | None:
    """Return the progress of the open batches; like Cognee, only once a document has ended."""
    batches = list(tx.iterate_batches(dataset.dataset_id, states=_OPEN))
    counts = [batch.counts for batch in batches]
    ended = sum(each.succeeded + each.failed + each.stopped for each in counts)
    if not ended:
        return None
    return {
        "completed_items": ended,
        "total_items": sum(each.total for each in counts),
        "current_stage": _last_stage(tx, max(batches, key=attrgetter("updated_at"))),
    }


def _last_stage(tx: ReadTransaction, batch: Batch) -> str | None:
    """Return the stage that a document of a batch has entered last."""
    newest = tx.iterate_transitions(batch, after_revision=batch.revision - _LAST)
    entered = [
        transition.document.stage
        for transition in newest
        if transition.kind is TransitionKind.STAGE_ENTERED and transition.document
    ]
    return entered[-1].name.lower() if entered else None


class DatasetsStatus(Endpoint[_Key]):
    """Returns the state of the named datasets, or of all, by id, in the order of the ids."""

    # The real server does not support HEAD.
    methods = ("GET",)
    _query: type[_Statuses] = _Statuses
    _failure = "Unable to retrieve dataset statuses."

    def credentials(self, headers: Headers) -> Sequence[str]:
        """Return the API keys, then the bearer tokens; one valid credential is enough."""
        bearers = map(bearer_of, headers.getlist("authorization"))
        return (*headers.getlist("x-api-key"), *filter(None, bearers))

    def key(self, scope: Scope, caller: Caller) -> _Key:
        """Return a key that all callers with the same visible datasets share."""
        return caller.visible, scope["query_string"]

    async def read(
        self, key: _Key, caller: Caller, version: int, _sending: contextlib.AsyncExitStack
    ) -> Content:
        """Read the states.

        Raises:
            _InvalidIds: some ids are malformed.
        """
        query = self._query(_visible_ids(_read_ids(key[1]), caller.visible))
        head, content = await self.store.read(
            lambda tx: (query.head(tx), query.render(tx)), visible=ALL
        )
        self.cache.keep(key, query, version, head, content)
        return content

    def error_response(self, error: Exception) -> Response:
        """Return the response for an error; one body for every failure of the server."""
        if isinstance(error, _InvalidIds):
            return JSONResponse({"detail": error.errors}, status_code=422)
        if isinstance(error, HTTPException):
            return JSONResponse(
                {"detail": error.detail}, status_code=error.status_code, headers=error.headers
            )
        if isinstance(error, CredentialsError):
            return JSONResponse({"detail": "Unauthorized"}, status_code=401)
        if isinstance(error, DeniedError):
            return JSONResponse({"detail": "Forbidden"}, status_code=403)
        return JSONResponse({"error": self._failure}, status_code=500)


class DatasetsProgress(DatasetsStatus):
    """Returns the state and the progress of the same datasets."""

    _query = _Progress
    _failure = "Unable to retrieve dataset progress."


class _InvalidIds(HTTPException):
    """Malformed ids.

    Attributes:
        errors: a validation error for each.
    """

    def __init__(self, errors: Sequence[dict[str, object]]) -> None:
        super().__init__(422)
        self.errors = errors


def _read_ids(query_string: bytes) -> frozenset[str]:
    """Return the requested ids in canonical form.

    Raises:
        _InvalidIds: some are malformed.
    """
    dataset_ids: set[str] = set()
    errors: list[dict[str, object]] = []
    for index, value in enumerate(QueryParams(query_string).getlist("dataset")):
        try:
            dataset_ids.add(parse_uuid(value))
        except InvalidUuid as error:
            errors.append(_validation_error(error, index, value))
    if errors:
        raise _InvalidIds(errors)
    return frozenset(dataset_ids)


def _visible_ids(dataset_ids: frozenset[str], visible: Visibility) -> frozenset[str] | None:
    """Return the visible ones of the requested datasets, or of all; `None` for all that exist."""
    if not dataset_ids:
        return visible.dataset_ids
    return dataset_ids if visible.dataset_ids is None else dataset_ids & visible.dataset_ids


def _validation_error(error: InvalidUuid, index: int, value: str) -> dict[str, object]:
    """Return an entry of `HTTPValidationError`, with the keys in pydantic's order."""
    return {
        "type": "uuid_parsing",
        "loc": ["query", "dataset", index],
        "msg": f"Input should be a valid UUID, {error}",
        "input": value,
        "ctx": {"error": str(error)},
    }
