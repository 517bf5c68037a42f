"""What clients of Dify's path rely on."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

from stagecast.model import ALL, DocumentError, Progress, Stage
from stagecast.notifier import Notifier
from stagecast.store.sqlite import SqliteStore
from tests.clock import START_US, Clock
from tests.conditions import until
from tests.rest.answers import EXAMPLE, WAITING
from tests.rest.apps import open_app
from tests.rest.conftest import Ingestion
from tests.store.counting import CountingStore

START = START_US // 1_000_000

FAILURE = DocumentError(reason="PARSE_FAILED", message="Page 3 is no text.")


def not_found(resource: str) -> dict[str, Any]:
    return {"status": 404, "code": "not_found", "message": f"{resource} not found."}


async def only(http: httpx.AsyncClient, ingestion: Ingestion) -> dict[str, Any]:
    """Return the one document of a batch."""
    response = await http.get(ingestion.path)
    assert response.status_code == 200
    [document] = response.json()["data"]
    assert list(document) == list(EXAMPLE["data"][0])
    return dict(document)


async def test_body_is_the_documented_example_byte_for_byte(
    http: httpx.AsyncClient, ingestion: Ingestion, clock: Clock
) -> None:
    document_id = "a8e0e5b5-78c6-4130-a5ce-25feb0e0b4ac"
    clock.now_us = 1741267200_000_000
    await ingestion.submit(document_id)
    await ingestion.report(
        document_id,
        Stage.COMPLETED,
        progress=Progress(completed_segments=5, total_segments=5),
    )
    response = await http.get(ingestion.path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.text == json.dumps(EXAMPLE, separators=(",", ":"))


async def test_waiting_document_has_null_times_and_zero_counters(
    http: httpx.AsyncClient, ingestion: Ingestion
) -> None:
    await ingestion.submit("a")
    assert await only(http, ingestion) == {"id": "a", **WAITING}


async def test_documents_come_in_the_order_of_registration(
    http: httpx.AsyncClient, ingestion: Ingestion
) -> None:
    await ingestion.submit("z", "a", "m", more=True)
    await ingestion.add("b")
    response = await http.get(ingestion.path)
    assert [document["id"] for document in response.json()["data"]] == ["z", "a", "m", "b"]


async def test_times_are_whole_seconds_of_completed_stages(
    http: httpx.AsyncClient, ingestion: Ingestion, clock: Clock
) -> None:
    await ingestion.submit("a")
    for stage in (Stage.PARSING, Stage.CLEANING, Stage.SPLITTING, Stage.INDEXING):
        clock.advance(1.7)
        await ingestion.report("a", stage)
    assert await only(http, ingestion) == {
        **WAITING,
        "id": "a",
        "indexing_status": "indexing",
        "processing_started_at": START + 1,
        "parsing_completed_at": START + 3,
        "cleaning_completed_at": START + 5,
        "splitting_completed_at": START + 6,
    }


@pytest.mark.parametrize(
    ("stage", "word"),
    [
        (None, "waiting"),
        (Stage.PARSING, "parsing"),
        (Stage.CLEANING, "cleaning"),
        (Stage.SPLITTING, "splitting"),
        (Stage.INDEXING, "indexing"),
        (Stage.COMPLETED, "completed"),
    ],
)
async def test_stage_is_the_indexing_status(
    http: httpx.AsyncClient, ingestion: Ingestion, stage: Stage | None, word: str
) -> None:
    await ingestion.submit("a")
    await ingestion.report("a", stage)
    assert (await only(http, ingestion))["indexing_status"] == word


async def test_counters_are_integers_and_an_unknown_total_is_zero(
    http: httpx.AsyncClient, ingestion: Ingestion
) -> None:
    await ingestion.submit("a")
    await ingestion.report("a", Stage.INDEXING, progress=Progress(completed_segments=3))
    document = await only(http, ingestion)
    assert (document["completed_segments"], document["total_segments"]) == (3, 0)


async def test_paused_document_shows_as_paused_whatever_the_stage(
    http: httpx.AsyncClient, ingestion: Ingestion, clock: Clock
) -> None:
    await ingestion.submit("a")
    await ingestion.report("a", Stage.PARSING)
    clock.advance(5)
    await ingestion.pause("a")
    await ingestion.report("a", Stage.CLEANING)
    assert await only(http, ingestion) == {
        **WAITING,
        "id": "a",
        "indexing_status": "paused",
        "processing_started_at": START,
        "parsing_completed_at": START + 5,
        "paused_at": START + 5,
    }


async def test_stopped_document_shows_as_error_so_that_pollers_end(
    http: httpx.AsyncClient, ingestion: Ingestion, clock: Clock
) -> None:
    await ingestion.submit("a")
    clock.advance(5)
    await ingestion.stop("a")
    assert await only(http, ingestion) == {
        **WAITING,
        "id": "a",
        "indexing_status": "error",
        "error": "Stopped.",
        "stopped_at": START + 5,
    }


async def test_failed_document_shows_its_message(
    http: httpx.AsyncClient, ingestion: Ingestion, clock: Clock
) -> None:
    await ingestion.submit("a")
    clock.advance(5)
    await ingestion.report("a", Stage.PARSING, error=FAILURE)
    assert await only(http, ingestion) == {
        **WAITING,
        "id": "a",
        "indexing_status": "error",
        "processing_started_at": START + 5,
        "error": "Page 3 is no text.",
        "stopped_at": START + 5,
    }


async def test_failed_document_without_a_message_shows_its_reason(
    http: httpx.AsyncClient, ingestion: Ingestion
) -> None:
    await ingestion.submit("a")
    await ingestion.report("a", error=DocumentError(reason="PARSE_FAILED"))
    assert (await only(http, ingestion))["error"] == "PARSE_FAILED"


async def test_texts_are_utf8_without_escapes_and_valid_json(
    http: httpx.AsyncClient, ingestion: Ingestion
) -> None:
    document_id = 'Größe/日本"\\ 100%s 😀'
    await ingestion.submit(document_id)
    await ingestion.report(
        document_id, error=DocumentError(reason="X", message='Zeile 1\n"\\ ü \x7f')
    )
    response = await http.get(ingestion.path)
    [document] = json.loads(response.content)["data"]
    assert (document["id"], document["error"]) == (document_id, 'Zeile 1\n"\\ ü \x7f')
    assert "Größe/日本".encode() in response.content


async def test_unknown_dataset_is_not_found(http: httpx.AsyncClient, dataset_id: str) -> None:
    response = await http.get(f"/v1/datasets/{dataset_id}/documents/b-1/indexing-status")
    assert response.status_code == 404
    assert response.text == json.dumps(not_found("Dataset"), separators=(",", ":"))


@pytest.mark.parametrize(
    "malformed",
    ["x", "%C3%A9", "6a1c0d1e8a3b4f0e9d3c3f1f6f0c2b11", "..%00", "' OR 1=1", "a" * 5_000],
)
async def test_malformed_dataset_is_a_dataset_not_found(
    http: httpx.AsyncClient, malformed: str
) -> None:
    response = await http.get(f"/v1/datasets/{malformed}/documents/b-1/indexing-status")
    assert (response.status_code, response.json()) == (404, not_found("Dataset"))


async def test_dataset_is_found_in_upper_case(
    http: httpx.AsyncClient, ingestion: Ingestion, dataset_id: str
) -> None:
    await ingestion.submit("a")
    response = await http.get(ingestion.path.replace(dataset_id, dataset_id.upper()))
    assert response.status_code == 200


@pytest.mark.parametrize("batch_id", ["b-2", "%00", "%C3%A9", "a b", "b-1%20", "x" * 5_000])
async def test_unknown_or_malformed_batch_is_documents_not_found(
    http: httpx.AsyncClient, ingestion: Ingestion, batch_id: str
) -> None:
    await ingestion.submit("a")
    path = f"/v1/datasets/{ingestion.dataset_id}/documents/{batch_id}/indexing-status"
    response = await http.get(path)
    assert (response.status_code, response.json()) == (404, not_found("Documents"))


async def test_batch_of_another_dataset_is_documents_not_found(
    http: httpx.AsyncClient, ingestion: Ingestion, begin: Callable[..., Ingestion]
) -> None:
    await ingestion.submit("a")
    other = begin(str(uuid.uuid4()), "b-2")
    await other.submit("a")
    path = f"/v1/datasets/{ingestion.dataset_id}/documents/b-2/indexing-status"
    assert (await http.get(path)).json() == not_found("Documents")


@pytest.mark.parametrize("more", [True, False])
async def test_batch_without_documents_is_documents_not_found(
    http: httpx.AsyncClient, ingestion: Ingestion, more: bool
) -> None:
    await ingestion.submit(more=more)
    response = await http.get(ingestion.path)
    assert (response.status_code, response.json()) == (404, not_found("Documents"))


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}, {"Authorization": "junk"}])
async def test_any_credentials_or_none_are_accepted(
    http: httpx.AsyncClient, ingestion: Ingestion, headers: dict[str, str]
) -> None:
    await ingestion.submit("a")
    assert (await http.get(ingestion.path, headers=headers)).status_code == 200


async def test_head_answers_as_get_without_a_body(
    http: httpx.AsyncClient, ingestion: Ingestion
) -> None:
    await ingestion.submit("a")
    got, headed = await http.get(ingestion.path), await http.head(ingestion.path)
    assert headed.status_code == 200
    assert headed.headers == got.headers
    assert headed.content == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_are_refused_in_the_envelope(
    http: httpx.AsyncClient, ingestion: Ingestion, method: str
) -> None:
    response = await http.request(method, ingestion.path)
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"
    assert response.json() == {
        "status": 405,
        "code": "method_not_allowed",
        "message": "The method is not allowed for the requested URL.",
    }


async def test_unchanged_body_has_the_same_etag_and_a_changed_one_another(
    http: httpx.AsyncClient, ingestion: Ingestion, clock: Clock
) -> None:
    await ingestion.submit("a")
    first, second = await http.get(ingestion.path), await http.get(ingestion.path)
    assert first.headers["etag"] == second.headers["etag"]
    assert first.content == second.content
    clock.advance(5)
    await ingestion.report("a", progress=Progress(completed_segments=1))
    assert (await http.get(ingestion.path)).headers["etag"] != first.headers["etag"]


async def test_known_etag_gets_304(http: httpx.AsyncClient, ingestion: Ingestion) -> None:
    await ingestion.submit("a")
    etag = (await http.get(ingestion.path)).headers["etag"]
    response = await http.get(ingestion.path, headers={"If-None-Match": etag})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == etag


async def test_unavailable_store_is_503_with_retry_after(
    http: httpx.AsyncClient, ingestion: Ingestion, db: Path
) -> None:
    await ingestion.submit("a")
    db.unlink()
    db.mkdir()  # no reader thread has opened it yet
    response = await http.get(ingestion.path)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json() == {
        "status": 503,
        "code": "service_unavailable",
        "message": "Try again later.",
    }


async def test_bug_is_logged_in_full_and_answered_in_one_line(
    http: httpx.AsyncClient,
    ingestion: Ingestion,
    store: SqliteStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await ingestion.submit("a")
    # Only a bug would write such a row.
    mistake = "UPDATE documents SET stage = 99"
    await store.write(lambda tx: tx._connection.execute(mistake), visible=ALL)  # type: ignore[attr-defined]
    response = await http.get(ingestion.path)
    assert response.status_code == 500
    assert response.json() == {"status": 500, "code": "unknown", "message": "Internal Server Error"}
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == f"GET {ingestion.path!r} failed"
    assert record.exc_info is not None


@pytest.mark.parametrize("documents", [999, 1_000, 1_001])
async def test_large_batch_looks_like_a_small_one(
    http: httpx.AsyncClient, ingestion: Ingestion, documents: int
) -> None:
    names = [f"doc-{number}" for number in range(documents)]
    await ingestion.submit(*names)
    body = (await http.get(ingestion.path)).json()
    assert body == {"data": [{"id": name, **WAITING} for name in names]}


@pytest.mark.slow
async def test_large_batch_does_not_delay_other_requests(
    http: httpx.AsyncClient, ingestion: Ingestion, begin: Callable[..., Ingestion]
) -> None:
    await ingestion.submit(*(f"doc-{number}" for number in range(10_000)))
    missing = begin(str(uuid.uuid4()))  # not cached, so that each request reads the store
    polls = [asyncio.create_task(http.get(ingestion.path)) for _ in range(6)]
    answered = 0
    while not any(poll.done() for poll in polls):
        assert (await http.get(missing.path)).status_code == 404
        answered += 1
    assert answered >= 5
    bodies = {(await poll).content for poll in polls}
    assert len(bodies) == 1
    assert len(json.loads(bodies.pop())["data"]) == 10_000


async def test_large_body_is_shared_while_it_is_being_sent(
    db: Path, clock: Clock, notifier: Notifier, dataset_id: str
) -> None:
    store = CountingStore(
        db,
        clock=clock,
        on_commit=notifier.notify,
        on_foreign_commit=notifier.close,
    )
    ingestion, pages, polls = Ingestion(store, dataset_id), 10, 8
    await ingestion.submit(*(f"doc-{number}" for number in range(pages * 1_000)))
    app, released = open_app(store), asyncio.Event()
    bodies: list[bytes] = []

    async def poll() -> None:
        """Send a request as a client that reads only the first part of the body for now."""

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                if not released.is_set():
                    bodies.append(message["body"])
                await released.wait()

        scope = {"type": "http", "method": "GET", "path": ingestion.path, "headers": []}
        await app({**scope, "query_string": b""}, _no_body, send)

    before = store.reads
    pending = [asyncio.create_task(poll()) for _ in range(polls)]
    await until(lambda: len(bodies) == polls)
    assert store.reads - before < polls + 2 * pages, "each reads the first page"
    assert len(set(bodies)) == 1
    await ingestion.report("doc-1", stage=Stage.PARSING)
    pending.append(asyncio.create_task(poll()))
    await until(lambda: len(bodies) == polls + 1)
    assert bodies[-1] != bodies[0]
    released.set()
    await asyncio.gather(*pending)
    await store.close()


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


NO_PATH = {
    "status": 404,
    "code": "not_found",
    "message": "The requested URL was not found on the server. "
    "If you entered the URL manually please check your spelling and try again.",
}


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/datasets",
        "/v1/unknown/deeper/still",
        "/v1/datasets/{dataset}/documents/b-1",
        "/v1/datasets/{dataset}/documents/b-1/indexing-status/",
        "/v1/datasets/{dataset}/documents/b-1/indexing-status/more",
        "/v1/datasets/{dataset}/documents/b%2Fc/indexing-status",
        "/v1/datasets/{dataset}/documents//indexing-status",
        "/v1/datasets//documents/b-1/indexing-status",
        "/v1/datasets/{dataset}/documents/b-1/INDEXING-STATUS",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "HEAD"])
async def test_unknown_path_below_v1_is_not_found_in_the_envelope(
    http: httpx.AsyncClient, ingestion: Ingestion, path: str, method: str
) -> None:
    await ingestion.submit("a")
    response = await http.request(method, path.format(dataset=ingestion.dataset_id))
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"
    if method != "HEAD":
        assert response.json() == NO_PATH


async def test_path_with_encoded_characters_is_the_same(
    http: httpx.AsyncClient, ingestion: Ingestion
) -> None:
    await ingestion.submit("a")
    for written in ("b%2d1", "b%2D1", "%62-%31"):
        response = await http.get(ingestion.path.replace("b-1", written))
        assert [row["id"] for row in response.json()["data"]] == ["a"]
