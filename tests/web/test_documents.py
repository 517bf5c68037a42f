"""The documents and files of the page, without a browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib import resources

import httpx
import pytest

from stagecast.app import App
from stagecast.config import Config

HTML = {"Accept": "text/html,application/xhtml+xml"}
BATCH = "/datasets/7c9e6679-7425-40de-944b-e07fc1f90ae7/batches/b-1"


@pytest.fixture
async def server(config: Config) -> AsyncIterator[App]:
    async with App(config) as app:
        yield app


@pytest.fixture
async def http(server: App) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}") as http:
        yield http


@pytest.mark.parametrize("path", ["/", BATCH])
async def test_documents_allow_nothing_from_elsewhere(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path, headers=HTML)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"].split("; ")
    assert "default-src 'self'" in policy
    assert not re.search("unsafe|https?:|data:|nonce", answer.headers["content-security-policy"])
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]* src=)", answer.text)
    assert not re.search('(?:src|href)="(?:[a-z]+:)?//', answer.text)


async def test_files_are_kept_for_ever_at_a_path_of_their_content(http: httpx.AsyncClient) -> None:
    page = (await http.get(BATCH, headers=HTML)).text
    folder = resources.files("stagecast.web") / "static"
    match = re.search(r'href="(/static/[0-9a-f]{16})/style\.css"', page)
    assert match
    for file in folder.iterdir():
        answer = await http.get(f"{match[1]}/{file.name}")
        assert answer.content == file.read_bytes()
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"].startswith("text/")
    for unknown in (f"{match[1]}/other.js", f"{match[1]}/..%2fpage.py", "/static/0/style.css"):
        assert (await http.get(unknown)).status_code == 404


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
async def test_other_clients_find_no_page_at_the_root(http: httpx.AsyncClient, accept: str) -> None:
    answer = await http.get("/", headers={"Accept": accept})
    assert (answer.status_code, answer.content) == (404, b'{"detail":"Not Found"}')


async def test_icon_shows_progress(http: httpx.AsyncClient) -> None:
    answer = await http.get("/icons/running-10.svg")
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert 'stroke-dasharray="50 100"' in answer.text
    for unknown in ("/icons/running-21.svg", "/icons/other-1.svg", "/icons/running-x.svg"):
        assert (await http.get(unknown)).status_code == 404


async def test_names_in_a_path_are_text(http: httpx.AsyncClient) -> None:
    answer = await http.get("/datasets/%3Cb%3E/batches/%22%3E%3Cscript%3E", headers=HTML)
    assert "<b>" not in answer.text
    assert "<script>" not in answer.text
    assert "&lt;script&gt;" in answer.text


async def test_page_works_behind_a_path_prefix(config: Config) -> None:
    async with (
        App(replace(config, http_root_path="/status%20page")) as server,
        httpx.AsyncClient(base_url=f"http://{server.http_address}") as http,
    ):
        for path in (BATCH, f"/status%20page{BATCH}"):
            page = (await http.get(path, headers=HTML)).text
            assert 'data-root="/status%20page"' in page
            match = re.search('src="/status%20page(/static/[^"]+)"', page)
            assert match
            assert (await http.get(match[1])).status_code == 200
            assert (await http.get("/status%20page" + match[1])).status_code == 200
        assert (await http.get("/", headers=HTML)).status_code == 200
        assert (await http.get("/status%20page/", headers=HTML)).status_code == 200
