"""The path prefix of a proxy, passed on or stripped."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from stagecast.config import check_root_path
from stagecast.store.sqlite import SqliteStore
from tests.rest.apps import open_app
from tests.rest.conftest import Ingestion

COGNEE = "/api/v1/datasets/status"
PREFIX = "/ingestion/status%20page"


@pytest.fixture
async def proxied(store: SqliteStore) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server behind a proxy."""
    transport = httpx.ASGITransport(open_app(store, root_path=PREFIX))
    async with httpx.AsyncClient(transport=transport, base_url="http://stagecast") as client:
        yield client


@pytest.mark.parametrize("prefix", ["", PREFIX])
async def test_paths_are_served_with_the_prefix_and_without(
    proxied: httpx.AsyncClient, ingestion: Ingestion, prefix: str
) -> None:
    await ingestion.submit("a")
    documents = (await proxied.get(prefix + ingestion.path)).json()["data"]
    assert [document["id"] for document in documents] == ["a"]
    states = (await proxied.get(prefix + COGNEE)).json()
    assert states == {ingestion.dataset_id: "DATASET_PROCESSING_INITIATED"}
    assert (await proxied.get(f"{prefix}/healthz")).json() == {"alive": True}


@pytest.mark.parametrize("root_path", ["/v1", "/api", "/api/v1"])
@pytest.mark.parametrize("passed_on", [False, True])
async def test_prefix_of_our_own_paths_may_be_stripped_or_not(
    store: SqliteStore, ingestion: Ingestion, root_path: str, passed_on: bool
) -> None:
    await ingestion.submit("a")
    transport = httpx.ASGITransport(open_app(store, root_path=root_path))
    before = root_path if passed_on else ""
    async with httpx.AsyncClient(transport=transport, base_url="http://stagecast") as client:
        for path in (ingestion.path, COGNEE, "/healthz"):
            assert (await client.get(before + path)).status_code == 200, path


@pytest.mark.parametrize("prefix", ["", PREFIX])
async def test_redirect_leads_below_the_prefix(proxied: httpx.AsyncClient, prefix: str) -> None:
    response = await proxied.get(f"{prefix}{COGNEE}/?pipeline=a")
    assert response.status_code == 307
    assert response.headers["location"] == f"{PREFIX}{COGNEE}?pipeline=a"


async def test_openapi_names_the_prefix_as_its_server(
    proxied: httpx.AsyncClient, http: httpx.AsyncClient
) -> None:
    described = (await proxied.get(f"{PREFIX}/openapi.json")).json()
    assert described.pop("servers") == [{"url": PREFIX}]
    assert described == (await http.get("/openapi.json")).json()


@pytest.mark.parametrize(
    ("path", "style"),
    [("", "detail"), ("/", "detail"), ("/v1", "message"), ("/v1/x", "message"), ("x/v1", "detail")],
)
async def test_unknown_path_below_the_prefix_is_not_found(
    proxied: httpx.AsyncClient, path: str, style: str
) -> None:
    response = await proxied.get(PREFIX + path)
    assert response.status_code == 404
    assert style in response.json()


@pytest.mark.parametrize("valid", ["", "/a", "/a/b-c.d~e", "/%C3%A4", "/a:b@c"])
def test_valid_prefix_is_accepted(valid: str) -> None:
    assert check_root_path(valid) == valid


@pytest.mark.parametrize(
    "invalid",
    ["/", "a", "/a/", "//a", "/a//b", "/a?b", "/a#b", "/a b", "/\u00e4", "/%zz", "/../a", "/a/.",
     "http://a/b", "/a\n",
     "/a%2Fb", "/%2e%2E", "/a/%2e"],
)  # fmt: skip
def test_invalid_prefix_is_refused(invalid: str) -> None:
    with pytest.raises(ValueError, match="is not a path such as /stagecast"):
        check_root_path(invalid)
