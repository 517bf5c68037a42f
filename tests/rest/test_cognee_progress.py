"""Cognee's newer poll, which adds the progress; everything else is as on the older path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from stagecast.model import DocumentError, Stage
from tests.rest.conftest import Ingestion

STATUS = "/api/v1/datasets/status"
PATH = f"{STATUS}/progress"
ONE = "0a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11"
TWO = "1b2d1e2f-9b4c-4a1f-8e4d-4a2a7a1d3c22"
STARTED = "DATASET_PROCESSING_STARTED"

Begin = Callable[..., Ingestion]


async def poll(http: httpx.AsyncClient) -> Any:
    response = await http.get(PATH, params={"dataset": ONE})
    assert response.status_code == 200
    return response.json()[ONE]


async def test_progress_is_given_while_running_from_the_first_end_on(
    http: httpx.AsyncClient, begin: Begin
) -> None:
    ingestion = begin(ONE)
    await ingestion.submit("a", "b", "c")
    assert await poll(http) == {"status": "DATASET_PROCESSING_INITIATED", "progress": None}
    await ingestion.report("a", Stage.INDEXING)
    assert await poll(http) == {"status": STARTED, "progress": None}
    await ingestion.report("a", Stage.COMPLETED)
    progress = {"completed_items": 1, "total_items": 3, "current_stage": "indexing"}
    assert await poll(http) == {"status": STARTED, "progress": progress}
    await ingestion.report("b", Stage.PARSING)
    await ingestion.report("b", error=DocumentError(reason="X"))
    progress = {"completed_items": 2, "total_items": 3, "current_stage": "parsing"}
    assert await poll(http) == {"status": STARTED, "progress": progress}
    await ingestion.report("c", Stage.COMPLETED)
    assert await poll(http) == {"status": "DATASET_PROCESSING_ERRORED", "progress": None}


async def test_body_is_compact_with_the_keys_in_order(
    http: httpx.AsyncClient, begin: Begin
) -> None:
    await begin(TWO).submit("a")
    ingestion = begin(ONE)
    await ingestion.submit("a", "b")
    await ingestion.report("a", Stage.COMPLETED)
    response = await http.get(PATH)
    assert response.text == (
        f'{{"{ONE}":{{"status":"{STARTED}","progress":'
        '{"completed_items":1,"total_items":2,"current_stage":null}},'
        f'"{TWO}":{{"status":"DATASET_PROCESSING_INITIATED","progress":null}}}}'
    )


async def test_documents_of_ended_batches_do_not_count(
    http: httpx.AsyncClient, begin: Begin
) -> None:
    earlier = begin(ONE, "earlier")
    await earlier.submit("a", "b", "c")
    for document_id in "abc":
        await earlier.report(document_id, Stage.COMPLETED)
    ingestion = begin(ONE, "now")
    await ingestion.submit("a", "b")
    await ingestion.report("a", Stage.COMPLETED)
    progress = (await poll(http))["progress"]
    assert (progress["completed_items"], progress["total_items"]) == (1, 2)


async def test_unchanged_answer_has_the_same_etag(http: httpx.AsyncClient, begin: Begin) -> None:
    ingestion = begin(ONE)
    await ingestion.submit("a", "b", "c")
    await ingestion.report("a", Stage.COMPLETED)
    etag = (await http.get(PATH)).headers["etag"]
    assert (await http.get(PATH, headers={"If-None-Match": etag})).status_code == 304
    await ingestion.report("b", Stage.PARSING)
    changed = await http.get(PATH, headers={"If-None-Match": etag})
    assert changed.json()[ONE]["progress"]["current_stage"] == "parsing"


@pytest.mark.parametrize("query", ["?dataset=bad", "?dataset=", "/?dataset=" + ONE])
async def test_bad_ids_and_slashes_are_answered_as_on_the_older_path(
    http: httpx.AsyncClient, query: str
) -> None:
    newer, older = await http.get(PATH + query), await http.get(STATUS + query)
    assert (newer.status_code, newer.text) == (older.status_code, older.text)
    if "location" in older.headers:
        assert newer.headers["location"] == PATH + query.removeprefix("/")


@pytest.mark.parametrize("method", ["HEAD", "POST"])
async def test_other_methods_are_refused(http: httpx.AsyncClient, method: str) -> None:
    response = await http.request(method, PATH)
    assert (response.status_code, response.headers["allow"]) == (405, "GET")


async def test_unavailable_store_is_500(http: httpx.AsyncClient, begin: Begin, db: Path) -> None:
    await begin(ONE).submit("a")
    db.unlink()
    db.mkdir()  # no reader thread has opened it yet
    response = await http.get(PATH)
    assert response.status_code == 500
    assert response.text == '{"error":"Unable to retrieve dataset progress."}'
