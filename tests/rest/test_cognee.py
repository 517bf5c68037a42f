"""What clients of Cognee's path rely on."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from stagecast.model import ALL, DocumentError, Stage
from stagecast.store.sqlite import SqliteStore
from tests.rest.conftest import Ingestion

PATH = "/api/v1/datasets/status"
ONE = "0a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11"
TWO = "1b2d1e2f-9b4c-4a1f-8e4d-4a2a7a1d3c22"
INITIATED = "DATASET_PROCESSING_INITIATED"
STARTED = "DATASET_PROCESSING_STARTED"
COMPLETED = "DATASET_PROCESSING_COMPLETED"
ERRORED = "DATASET_PROCESSING_ERRORED"

Begin = Callable[..., Ingestion]


async def test_pending_dataset_is_initiated(http: httpx.AsyncClient, begin: Begin) -> None:
    await begin(ONE).submit("a")
    response = await http.get(PATH, params={"dataset": ONE})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.text == f'{{"{ONE}":"{INITIATED}"}}'


async def test_running_dataset_is_started(http: httpx.AsyncClient, begin: Begin) -> None:
    ingestion = begin(ONE)
    await ingestion.submit("a", "b")
    await ingestion.report("a", Stage.COMPLETED)
    assert (await http.get(PATH, params={"dataset": ONE})).json() == {ONE: STARTED}


async def test_succeeded_dataset_is_completed(http: httpx.AsyncClient, begin: Begin) -> None:
    ingestion = begin(ONE)
    await ingestion.submit("a")
    await ingestion.report("a", Stage.COMPLETED)
    assert (await http.get(PATH, params={"dataset": ONE})).json() == {ONE: COMPLETED}


async def test_failed_dataset_is_errored(http: httpx.AsyncClient, begin: Begin) -> None:
    ingestion = begin(ONE)
    await ingestion.submit("a", "b")
    await ingestion.report("a", Stage.COMPLETED)
    await ingestion.report("b", error=DocumentError(reason="X"))
    assert (await http.get(PATH, params={"dataset": ONE})).json() == {ONE: ERRORED}


async def test_stopped_dataset_is_errored(http: httpx.AsyncClient, begin: Begin) -> None:
    ingestion = begin(ONE)
    await ingestion.submit("a")
    await ingestion.stop("a")
    assert (await http.get(PATH, params={"dataset": ONE})).json() == {ONE: ERRORED}


@pytest.mark.parametrize("query", ["", "?", "?pipeline=x", "?datasets=x&dataset[]=y&DATASET=z"])
async def test_no_dataset_named_means_all(
    http: httpx.AsyncClient, begin: Begin, query: str
) -> None:
    await begin(TWO).submit("a")
    await begin(ONE).submit("a")
    response = await http.get(PATH + query)
    assert response.text == f'{{"{ONE}":"{INITIATED}","{TWO}":"{INITIATED}"}}'


async def test_no_datasets_give_an_empty_object(http: httpx.AsyncClient) -> None:
    response = await http.get(PATH)
    assert (response.status_code, response.text) == (200, "{}")


async def test_unknown_dataset_is_left_out(http: httpx.AsyncClient, begin: Begin) -> None:
    await begin(ONE).submit("a")
    response = await http.get(PATH, params={"dataset": [TWO, ONE]})
    assert (response.status_code, response.json()) == (200, {ONE: INITIATED})


async def test_only_unknown_datasets_give_an_empty_object(
    http: httpx.AsyncClient, begin: Begin
) -> None:
    await begin(ONE).submit("a")
    response = await http.get(PATH, params={"dataset": TWO})
    assert (response.status_code, response.text) == (200, "{}")


async def test_duplicates_in_any_form_count_once(http: httpx.AsyncClient, begin: Begin) -> None:
    await begin(ONE).submit("a")
    forms = [ONE, ONE, ONE.upper(), ONE.replace("-", ""), f"urn:uuid:{ONE}", f"{{{ONE}}}"]
    response = await http.get(PATH, params={"dataset": forms})
    assert response.text == f'{{"{ONE}":"{INITIATED}"}}'


@pytest.mark.parametrize(
    "form", [ONE.upper(), ONE.replace("-", ""), f"urn:uuid:{ONE}", f"{{{ONE}}}"]
)
async def test_id_is_echoed_in_canonical_form(
    http: httpx.AsyncClient, begin: Begin, form: str
) -> None:
    await begin(ONE).submit("a")
    assert (await http.get(PATH, params={"dataset": form})).json() == {ONE: INITIATED}


async def test_unknown_parameters_beside_a_dataset_are_ignored(
    http: httpx.AsyncClient, begin: Begin
) -> None:
    await begin(ONE).submit("a")
    await begin(TWO).submit("a")
    response = await http.get(PATH, params={"dataset": ONE, "pipeline": "cognify_pipeline"})
    assert response.json() == {ONE: INITIATED}


async def test_each_invalid_id_has_an_error_worded_as_by_pydantic(http: httpx.AsyncClient) -> None:
    response = await http.get(f"{PATH}?dataset=bad&dataset={ONE}&dataset=%C3%A9&pipeline=x")
    assert response.status_code == 422
    assert response.text == (
        '{"detail":[{"type":"uuid_parsing","loc":["query","dataset",0],'
        '"msg":"Input should be a valid UUID, '
        'invalid length: expected length 32 for simple format, found 3",'
        '"input":"bad",'
        '"ctx":{"error":"invalid length: expected length 32 for simple format, found 3"}},'
        '{"type":"uuid_parsing","loc":["query","dataset",2],'
        '"msg":"Input should be a valid UUID, invalid character: expected an optional prefix of '
        '`urn:uuid:` followed by [0-9a-fA-F-], found `é` at 1",'
        '"input":"é",'
        '"ctx":{"error":"invalid character: expected an optional prefix of '
        '`urn:uuid:` followed by [0-9a-fA-F-], found `é` at 1"}}]}'
    )


@pytest.mark.parametrize("query", ["?dataset=", "?dataset", "?dataset=&pipeline=x"])
async def test_empty_id_is_invalid(http: httpx.AsyncClient, query: str) -> None:
    response = await http.get(PATH + query)
    assert response.status_code == 422
    [entry] = response.json()["detail"]
    assert (entry["input"], entry["loc"]) == ("", ["query", "dataset", 0])


async def test_id_with_invalid_utf8_is_invalid(http: httpx.AsyncClient) -> None:
    response = await http.get(f"{PATH}?dataset=%FF")
    assert response.status_code == 422
    assert response.json()["detail"][0]["input"] == "\ufffd"


@pytest.mark.parametrize(
    "headers", [{}, {"X-Api-Key": "x"}, {"Authorization": "Bearer x"}, {"Authorization": "junk"}]
)
async def test_any_credentials_or_none_are_accepted(
    http: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    assert (await http.get(PATH, headers=headers)).status_code == 200


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_are_refused(http: httpx.AsyncClient, method: str) -> None:
    response = await http.request(method, PATH)
    assert (response.status_code, response.headers["allow"]) == (405, "GET")
    if method != "HEAD":
        assert response.text == '{"detail":"Method Not Allowed"}'


async def test_trailing_slash_redirects_and_keeps_the_query(http: httpx.AsyncClient) -> None:
    response = await http.get(f"{PATH}/?dataset={ONE}&pipeline=a%20b")
    assert response.status_code == 307
    assert response.headers["location"] == f"{PATH}?dataset={ONE}&pipeline=a%20b"
    assert str(response.next_request and response.next_request.url).startswith("http://stagecast/")


async def test_etag_changes_with_the_body_and_gives_304(
    http: httpx.AsyncClient, begin: Begin
) -> None:
    ingestion = begin(ONE)
    await ingestion.submit("a")
    etag = (await http.get(PATH)).headers["etag"]
    response = await http.get(PATH, headers={"If-None-Match": etag})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == etag
    await ingestion.report("a", Stage.PARSING)
    response = await http.get(PATH, headers={"If-None-Match": etag})
    assert (response.status_code, response.json()) == (200, {ONE: STARTED})
    assert response.headers["etag"] != etag


async def test_unavailable_store_is_500(
    http: httpx.AsyncClient, begin: Begin, db: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await begin(ONE).submit("a")
    db.unlink()
    db.mkdir()  # no reader thread has opened it yet
    response = await http.get(PATH)
    assert response.status_code == 500
    assert response.text == '{"error":"Unable to retrieve dataset statuses."}'
    assert not caplog.records


async def test_bug_is_logged_in_full_and_answered_in_one_line(
    http: httpx.AsyncClient, begin: Begin, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    await begin(ONE).submit("a")
    # Only a bug would write such a row.
    mistake = "UPDATE datasets SET open_batches = 0, last_ended = 99"
    await store.write(lambda tx: tx._connection.execute(mistake), visible=ALL)  # type: ignore[attr-defined]
    response = await http.get(PATH)
    assert response.status_code == 500
    assert response.text == '{"error":"Unable to retrieve dataset statuses."}'
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == f"GET {PATH!r} failed"
    assert record.exc_info is not None


async def test_hundreds_of_ids_are_answered_at_once(http: httpx.AsyncClient, begin: Begin) -> None:
    await begin(ONE).submit("a")
    others = [str(uuid.uuid4()) for _ in range(1_000)]
    response = await http.get(PATH, params={"dataset": [*others, ONE]})
    assert response.json() == {ONE: INITIATED}
