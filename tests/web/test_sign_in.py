"""Signing in and out in a browser, and what a key may do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import expect

import stagecast
from stagecast.app import App
from stagecast.config import Config
from stagecast.model import Scope
from tests.access import make_key, revoke
from tests.web.conftest import Open
from tests.web.pipeline import Pipeline
from tests.web.tab import Tab

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
async def key(config: Config) -> str:
    return await make_key(config.db)


@pytest.fixture
async def client(server: App, key: str) -> AsyncIterator[stagecast.AsyncClient]:
    async with stagecast.AsyncClient(server.grpc_address, key=key) as client:
        yield client


async def _sign_in(tab: Tab, key: str) -> None:
    await tab.find("#key").fill(key)
    await tab.button("Sign in").click()


async def test_reader_signs_in_and_out(visit: Open, pipeline: Pipeline, key: str) -> None:
    await pipeline.create("a.md")
    async with visit(pipeline.path) as tab:
        await tab.check_accessibility()
        await _sign_in(tab, "wrong")
        await tab.shows("#problem", "unknown key")
        await _sign_in(tab, key)
        await tab.shows("#state", "pending")
        await pipeline.fail("a.md")
        await tab.button("Retry", within="#attention").click()
        await tab.button("Retry", within="#confirm").click()
        await expect(tab.row("a.md").locator(".state")).to_have_text("pending")
        assert not [url for url in tab.urls if key in url]
        assert await tab.page.evaluate("document.cookie") == "", "scripts cannot read it"
        await tab.button("Sign out").click()
        await expect(tab.find("#key")).to_be_visible()
        await tab.page.reload()
        await expect(tab.find("#key")).to_be_visible()


async def test_key_that_only_reads_shows_no_buttons(
    visit: Open, pipeline: Pipeline, config: Config
) -> None:
    await pipeline.create("a.md")
    await pipeline.fail("a.md")
    async with visit(f"{pipeline.path}#document=a.md") as tab:
        await _sign_in(tab, await make_key(config.db, Scope.READ))
        await tab.shows(".timeline", "failed")
        await tab.shows("#attention", "1 document failed")
        for name in (
            "Retry",
            "Stop",
            "Pause",
            "Resume",
            "Retry failed",
            "Retry failed and stopped",
        ):
            await expect(tab.button(name)).to_have_count(0)
        await tab.page.keyboard.press("r")
        await expect(tab.find("#confirm")).to_be_hidden()


async def test_page_of_another_session_is_loaded_again(
    visit: Open, pipeline: Pipeline, config: Config, key: str, server: App
) -> None:
    async with visit("/") as tab:
        await _sign_in(tab, key)
        await tab.shows("#empty", "No batches yet")
        # As in another tab of the same browser.
        other = {"Authorization": f"Bearer {await make_key(config.db)}"}
        session = f"http://{server.http_address}/session"
        assert (await tab.page.request.post(session, headers=other)).ok
        await pipeline.create("a.md")
        await tab.shows("#open", "batch-1")


async def test_signing_in_at_another_port_leaves_the_first_signed_in(
    visit: Open, key: str, config: Config, tmp_path: Path
) -> None:
    other = replace(config, db=tmp_path / "other.db")
    other_key = await make_key(other.db)
    async with App(other) as second, visit("/") as tab:
        await _sign_in(tab, key)
        await tab.shows("#empty", "No batches yet")
        first = tab.page.url
        await tab.page.goto(f"http://{second.http_address}/")
        await _sign_in(tab, other_key)
        await tab.shows("#empty", "No batches yet")
        await tab.page.goto(first)
        await tab.shows("#empty", "No batches yet")


async def test_revoked_key_leads_back_to_the_form(
    visit: Open, pipeline: Pipeline, config: Config, key: str
) -> None:
    await pipeline.create("a.md")
    other = await make_key(config.db)
    async with visit(pipeline.path) as tab:
        await _sign_in(tab, other)
        await tab.shows("#connection", "live")
        await revoke(config.db, other)
        await tab.shows("#problem", "The session has ended. Sign in again.")
