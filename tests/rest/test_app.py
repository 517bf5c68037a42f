"""Everything besides the two paths: probes, the OpenAPI document, unknown paths."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import httpx
import pytest

from stagecast.store.sqlite import SqliteStore
from tests.rest.apps import open_app
from tests.rest.conftest import Ingestion

DIFY = "/v1/datasets/{dataset_id}/documents/{batch}/indexing-status"
COGNEE = "/api/v1/datasets/status"

TYPES = {"string": str, "number": int, "integer": int}


async def get_openapi(http: httpx.AsyncClient) -> dict[str, Any]:
    response = await http.get("/openapi.json")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    return dict(response.json())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_healthz_answers_while_the_process_lives(
    http: httpx.AsyncClient, method: str
) -> None:
    assert (await http.request(method, "/healthz")).status_code == 200


async def test_readyz_returns_whether_the_server_is_ready(store: SqliteStore) -> None:
    ready = [True, False, True]
    app = open_app(store, is_ready=lambda: ready.pop())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://stagecast") as http:
        answers = [await http.get("/readyz") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 503, 200]
    assert [answer.json() for answer in answers] == [
        {"ready": True},
        {"ready": False},
        {"ready": True},
    ]


@pytest.mark.parametrize("path", ["/", "/api/v1/datasets", "/v1beta", "/V1/datasets", "/api/v1"])
async def test_unknown_path_is_not_found(http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(path)
    assert (response.status_code, response.text) == (404, '{"detail":"Not Found"}')
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
async def test_trailing_slash_redirects_on_open_paths(http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(path + "/?a=b")
    assert (response.status_code, response.headers["location"]) == (307, path + "?a=b")


async def test_bug_gets_a_json_response_without_its_text(store: SqliteStore) -> None:
    def fail() -> bool:
        raise ValueError("secret")

    transport = httpx.ASGITransport(open_app(store, is_ready=fail), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://stagecast") as http:
        response = await http.get("/readyz")
    assert (response.status_code, response.text) == (500, '{"detail":"Internal Server Error"}')


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
async def test_other_methods_on_open_paths_are_refused(http: httpx.AsyncClient, path: str) -> None:
    response = await http.post(path)
    assert (response.status_code, response.text) == (405, '{"detail":"Method Not Allowed"}')
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_no_cors_header_is_sent(http: httpx.AsyncClient) -> None:
    response = await http.get(COGNEE, headers={"Origin": "https://example.org"})
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_openapi_has_the_version_of_the_package(http: httpx.AsyncClient) -> None:
    assert (await get_openapi(http))["info"]["version"] == metadata.version("stagecast")


async def test_openapi_has_the_documented_operations(http: httpx.AsyncClient) -> None:
    paths = (await get_openapi(http))["paths"]
    assert {path: list(methods) for path, methods in paths.items()} == {
        DIFY: ["get"],
        COGNEE: ["get"],
    }
    assert paths[DIFY]["get"]["operationId"] == "getDocumentIndexingStatus"
    assert paths[COGNEE]["get"]["operationId"] == "get_dataset_status_api_v1_datasets_status_get"


async def test_openapi_has_the_documented_parameters(http: httpx.AsyncClient) -> None:
    paths = (await get_openapi(http))["paths"]
    assert paths[DIFY]["get"]["parameters"] == [
        {
            "name": "dataset_id",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "format": "uuid"},
            "description": "Knowledge base ID.",
        },
        {
            "name": "batch",
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "description": "Batch ID returned from document creation.",
        },
    ]
    assert paths[COGNEE]["get"]["parameters"] == [
        {
            "name": "dataset",
            "in": "query",
            "required": False,
            "schema": {
                "type": "array",
                "items": {"type": "string", "format": "uuid"},
                "default": [],
                "title": "Dataset",
            },
        }
    ]


async def test_openapi_has_the_documented_codes_and_our_own(http: httpx.AsyncClient) -> None:
    paths = (await get_openapi(http))["paths"]
    dify, cognee = paths[DIFY]["get"], paths[COGNEE]["get"]
    assert list(dify["responses"]) == ["200", "304", "401", "403", "404", "500", "503"]
    assert list(cognee["responses"]) == ["200", "304", "401", "403", "422", "500"]


async def test_openapi_has_the_documented_credentials(http: httpx.AsyncClient) -> None:
    document = await get_openapi(http)
    schemes = document["components"]["securitySchemes"]
    [[dify]] = document["paths"][DIFY]["get"]["security"]
    assert (schemes[dify]["type"], schemes[dify]["scheme"]) == ("http", "bearer")
    [[bearer], [key]] = document["paths"][COGNEE]["get"]["security"]
    assert schemes[bearer] == {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    assert schemes[key] == {"type": "apiKey", "in": "header", "name": "X-Api-Key"}


async def test_openapi_describes_the_body_that_is_sent(
    http: httpx.AsyncClient, ingestion: Ingestion
) -> None:
    await ingestion.submit("a")
    [document] = (await http.get(ingestion.path)).json()["data"]
    answer = (await get_openapi(http))["paths"][DIFY]["get"]["responses"]["200"]
    schema = answer["content"]["application/json"]["schema"]
    properties = schema["properties"]["data"]["items"]["properties"]
    assert list(properties) == list(document)
    for key, value in document.items():
        if value is None:
            assert properties[key]["nullable"], key
        else:
            assert type(value) is TYPES[properties[key]["type"]], key


async def test_openapi_has_the_documented_states(http: httpx.AsyncClient) -> None:
    schemas = (await get_openapi(http))["components"]["schemas"]
    assert list(schemas) == ["PipelineRunStatus", "HTTPValidationError", "ValidationError"]
    assert schemas["PipelineRunStatus"]["enum"] == [
        "DATASET_PROCESSING_INITIATED",
        "DATASET_PROCESSING_STARTED",
        "DATASET_PROCESSING_COMPLETED",
        "DATASET_PROCESSING_ERRORED",
    ]


async def test_openapi_with_a_known_etag_is_304(http: httpx.AsyncClient) -> None:
    etag = (await http.get("/openapi.json")).headers["etag"]
    response = await http.get("/openapi.json", headers={"If-None-Match": etag})
    assert response.status_code == 304
