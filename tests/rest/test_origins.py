"""CORS as browsers use it: a preflight request, then the request."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from stagecast.store.sqlite import SqliteStore
from tests.rest.apps import open_app
from tests.rest.conftest import Ingestion

PAGE = "http://localhost:3000"
COGNEE = "/api/v1/datasets/status"


@pytest.fixture
async def open_http(store: SqliteStore) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server with one configured origin."""
    app = open_app(store, cors_origins=(PAGE,))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://stagecast") as client:
        yield client


def preflight(origin: str, headers: str = "x-api-key, content-type") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": headers,
    }


async def test_configured_origin_may_send_a_key(
    open_http: httpx.AsyncClient,
) -> None:
    answer = await open_http.options(COGNEE, headers=preflight(PAGE))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-allow-headers"] == "x-api-key, content-type"


async def test_configured_origin_may_read_responses_and_errors(
    open_http: httpx.AsyncClient, ingestion: Ingestion
) -> None:
    await ingestion.submit("a")
    for path, status in [
        (ingestion.path, 200),
        (COGNEE, 200),
        (f"{COGNEE}?dataset=bad", 422),
        (f"{ingestion.path}x/nothing", 404),
    ]:
        answer = await open_http.get(path, headers={"Origin": PAGE})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "ETag" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", ["https://localhost:3000", "http://localhost:3001", "null"])
async def test_other_origin_is_refused(open_http: httpx.AsyncClient, origin: str) -> None:
    refused = await open_http.options(COGNEE, headers=preflight(origin))
    assert refused.status_code == 400
    assert refused.json() == {"detail": "Disallowed CORS origin"}
    assert "Origin" in refused.headers["vary"]
    answer = await open_http.get(COGNEE, headers={"Origin": origin})
    for headers in (refused.headers, answer.headers):
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("root_path", ["", "/ingestion", "/v1"])
@pytest.mark.parametrize(
    ("origin", "method", "message"),
    [
        ("http://other", "GET", "Disallowed CORS origin"),
        (PAGE, "DELETE", "Disallowed CORS method"),
    ],
)
async def test_refused_preflight_has_the_error_style_of_the_path(
    store: SqliteStore, origin: str, method: str, message: str, root_path: str
) -> None:
    app = open_app(store, cors_origins=(PAGE,), root_path=root_path)
    headers = preflight(origin) | {"Access-Control-Request-Method": method}
    envelope = {"status": 400, "code": "bad_request", "message": message}
    documents = "/v1/datasets/7c9e6679-7425-40de-944b-e07fc1f90ae7/documents/b1/indexing-status"
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://stagecast") as client:
        for path, body in (
            (documents, envelope),
            (root_path + documents, envelope),
            (root_path + "/v1/unknown", envelope),
            (COGNEE, {"detail": message}),
            (root_path + COGNEE, {"detail": message}),
        ):
            refused = await client.options(path, headers=headers)
            assert (refused.status_code, refused.json()) == (400, body)
            assert refused.headers["content-type"] == "application/json"
            assert "Origin" in refused.headers["vary"]


async def test_cors_is_off_without_configured_origins(http: httpx.AsyncClient) -> None:
    refused = await http.options(COGNEE, headers=preflight(PAGE))
    assert refused.status_code == 405
    answer = await http.get(COGNEE, headers={"Origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control")]
