"""Signing in, without a browser: what is answered, and which paths take the cookie."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from stagecast.app import App
from stagecast.auth import forgery_token
from stagecast.config import Config
from stagecast.model import Scope
from tests.access import make_key, revoke
from tests.certificates import Authority, Certificate

HTML = {"Accept": "text/html,application/xhtml+xml"}
CREATE = "/stagecast.v1.ReportService/CreateBatch"
LIST = "/stagecast.v1.StatusService/ListBatches"


@pytest.fixture
async def key(config: Config) -> str:
    return await make_key(config.db)


@pytest.fixture
async def server(config: Config, key: str) -> AsyncIterator[App]:
    async with App(config) as app:
        yield app


@pytest.fixture
async def http(server: App) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}") as http:
        yield http


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def sign_in(http: httpx.AsyncClient, key: str) -> str:
    """Sign in, and return the forgery token of the page."""
    assert (await http.post("/session", headers=bearer(key))).status_code == 204
    page = await http.get("/", headers=HTML)
    assert page.status_code == 200
    match = re.search('data-forgery-token="([0-9a-f]{64})"', page.text)
    assert match
    return match[1]


async def test_key_is_exchanged_for_a_cookie(http: httpx.AsyncClient, key: str) -> None:
    answer = await http.post("/session", headers=bearer(key))
    assert answer.status_code == 204
    value, *attributes = answer.headers["set-cookie"].split("; ")
    assert {one.lower() for one in attributes} == {
        "httponly",
        "max-age=43200",
        "path=/",
        "samesite=strict",
    }
    assert key not in value
    assert key.rpartition("_")[2] not in value


@pytest.mark.parametrize(
    ("protocols", "secure"),
    [
        ("https", True),
        ("HTTPS", True),
        ("https, http", True),
        ("http", False),
        ("http,https", False),
    ],
)
async def test_cookie_is_secure_if_the_first_proxy_was_reached_by_tls(
    http: httpx.AsyncClient, key: str, protocols: str, secure: bool
) -> None:
    forwarded = {"X-Forwarded-Proto": protocols}
    answer = await http.post("/session", headers=bearer(key) | forwarded)
    assert ("; secure" in answer.headers["set-cookie"].lower()) is secure


async def test_cookie_is_for_the_path_prefix_as_the_browser_writes_it(
    config: Config, key: str
) -> None:
    async with (
        App(replace(config, http_root_path="/status%20\u00e9")) as server,
        httpx.AsyncClient(base_url=f"http://{server.http_address}") as http,
    ):
        answer = await http.post("/session", headers=bearer(key))
        assert "path=/status%20%c3%a9;" in answer.headers["set-cookie"].lower()


async def test_cookie_is_secure_over_tls(
    config: Config, authority: Authority, ours: Certificate, key: str
) -> None:
    config = replace(config, tls_cert=ours.cert, tls_key=ours.key)
    trusted = ssl.create_default_context(cafile=authority.ca)
    async with (
        App(config) as server,
        httpx.AsyncClient(base_url=f"https://{server.http_address}", verify=trusted) as http,
    ):
        answer = await http.post("/session", headers=bearer(key))
        assert "; secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize("headers", [{}, bearer("wrong"), {"Cookie": "NAME=k.1.AAAA"}])
async def test_no_cookie_without_a_valid_key(
    http: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    if "Cookie" in headers:
        name = f"stagecast_session_{http.base_url.port}"
        headers = {"Cookie": headers["Cookie"].replace("NAME", name)}
    answer = await http.post("/session", headers=headers)
    assert answer.status_code in (401, 403)
    assert "set-cookie" not in answer.headers


async def test_session_holds_the_key_that_was_checked(http: httpx.AsyncClient, key: str) -> None:
    answer = await http.post("/session", headers=bearer(key) | {"X-Api-Key": "wrong"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


async def test_no_cookie_is_set_while_no_key_is_required(config: Config) -> None:
    async with (
        App(config) as server,
        httpx.AsyncClient(base_url=f"http://{server.http_address}") as http,
    ):
        answer = await http.post("/session", headers=bearer("anything"))
        assert answer.status_code == 204
        assert "set-cookie" not in answer.headers


async def test_page_without_a_session_is_the_form(http: httpx.AsyncClient, key: str) -> None:
    for path in ("/", "/datasets/7c9e6679-7425-40de-944b-e07fc1f90ae7/batches/b"):
        answer = await http.get(path, headers=HTML)
        assert answer.status_code == 401
        assert 'id="key"' in answer.text
        assert "data-forgery-token" in answer.text
        assert "The session has ended" not in answer.text


async def test_session_ends_with_its_key(http: httpx.AsyncClient, config: Config, key: str) -> None:
    await sign_in(http, key)
    await revoke(config.db, key)
    answer = await http.get("/", headers=HTML)
    assert answer.status_code == 401
    assert "The session has ended" in answer.text
    assert (await http.post(LIST, json={})).status_code in (401, 403)


async def test_key_without_the_scope_is_refused_with_the_reason(
    http: httpx.AsyncClient, config: Config
) -> None:
    answer = await http.post("/session", headers=bearer(await make_key(config.db, Scope.REPORT)))
    assert answer.status_code == 401
    assert "has no scope 'read'" in answer.json()["message"]


async def test_cookie_counts_for_calls_with_the_forgery_token_only(
    http: httpx.AsyncClient, key: str
) -> None:
    token = await sign_in(http, key)
    for headers in ({}, {"X-Stagecast-Forgery-Token": forgery_token("k.1.other")}):
        answer = await http.post(LIST, json={}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    answer = await http.post(LIST, json={}, headers={"X-Stagecast-Forgery-Token": token})
    assert answer.status_code == 200
    assert (await http.delete("/session")).status_code == 403


async def test_cookie_counts_for_streams(http: httpx.AsyncClient, key: str) -> None:
    url = "/v1/datasets/watch"
    assert (await http.get(url)).status_code == 401
    await sign_in(http, key)
    async with http.stream("GET", url) as answer:
        assert answer.status_code == 200


async def test_cookie_does_not_count_for_the_polled_paths(
    http: httpx.AsyncClient, key: str, dataset_id: str
) -> None:
    await sign_in(http, key)
    dify = f"/v1/datasets/{dataset_id}/documents/b-1/indexing-status"
    for path in ("/api/v1/datasets/status", dify):
        assert (await http.get(path)).status_code == 401


async def test_credentials_count_more_than_a_cookie(http: httpx.AsyncClient, key: str) -> None:
    await sign_in(http, key)
    assert (await http.post(LIST, json={}, headers=bearer("wrong"))).status_code == 401
    assert (await http.post(LIST, json={}, headers=bearer(key))).status_code == 200


async def test_signing_out_removes_the_cookie(http: httpx.AsyncClient, key: str) -> None:
    token = await sign_in(http, key)
    answer = await http.delete("/session", headers={"X-Stagecast-Forgery-Token": token})
    assert answer.status_code == 204
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    assert (await http.get("/", headers=HTML)).status_code == 401


async def test_servers_on_other_ports_and_paths_of_a_host_have_cookies_of_their_own(
    config: Config, key: str, tmp_path: Path
) -> None:
    others = [
        replace(config, db=tmp_path / "other.db", http_root_path=path) for path in ("", "/a", "/b")
    ]
    other_key = await make_key(others[0].db)
    async with (
        App(config) as server,
        App(others[0]) as second,
        App(others[1]) as third,
        App(others[2]) as fourth,
        httpx.AsyncClient() as browser,  # its cookies know no ports either
    ):
        signed_in = [
            (f"http://{server.http_address}", key),
            (f"http://{second.http_address}", other_key),
            (f"http://{third.http_address}/a", other_key),
            (f"http://{fourth.http_address}/b", other_key),
        ]
        for url, its_key in signed_in:
            answer = await browser.post(f"{url}/session", headers=bearer(its_key))
            assert answer.status_code == 204
        for url, _ in signed_in:
            assert (await browser.get(f"{url}/", headers=HTML)).status_code == 200


async def test_servers_on_other_paths_of_a_proxy_have_cookies_of_their_own(
    config: Config, key: str
) -> None:
    proxy, names = {"Host": "status.example.com"}, set()
    for path in ("", "/a", "/b"):
        async with (
            App(replace(config, http_root_path=path)) as server,
            httpx.AsyncClient(base_url=f"http://{server.http_address}") as http,
        ):
            answer = await http.post("/session", headers=bearer(key) | proxy)
            names.add(answer.headers["set-cookie"].partition("=")[0])
    assert len(names) == 3


async def test_scopes_of_the_key_are_those_of_the_page(
    http: httpx.AsyncClient, config: Config
) -> None:
    await sign_in(http, await make_key(config.db, Scope.READ))
    page = await http.get("/datasets/x/batches/y", headers=HTML)
    assert 'data-scopes="read"' in page.text
    assert "batch-actions" not in page.text
