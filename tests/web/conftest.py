"""A browser, a server, and a batch that a page can show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import pytest
from playwright.async_api import Browser

import stagecast
from stagecast.app import App
from stagecast.config import Config
from tests.web.browser import launched
from tests.web.pipeline import Pipeline
from tests.web.tab import Tab, opened

Open: TypeAlias = Callable[..., AbstractAsyncContextManager[Tab]]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser


@pytest.fixture
async def server(config: Config) -> AsyncIterator[App]:
    """A whole server on a fresh file, with a real clock."""
    async with App(config) as app:
        yield app


@pytest.fixture
async def client(server: App) -> AsyncIterator[stagecast.AsyncClient]:
    async with stagecast.AsyncClient(server.grpc_address) as client:
        yield client


@pytest.fixture
def pipeline(client: stagecast.AsyncClient, dataset_id: str) -> Pipeline:
    return Pipeline(client, dataset_id)


@pytest.fixture
def visit(browser: Browser, server: App) -> Open:
    """Opens a path of the server in a profile of its own."""

    def open_path(path: str, **options: Any) -> AbstractAsyncContextManager[Tab]:
        return opened(browser, f"http://{server.http_address}{path}", **options)

    return open_path
