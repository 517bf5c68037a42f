"""What the page says and does when the server, or a proxy in front of it, refuses or is gone."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from playwright.async_api import Route, expect

from stagecast.app import App
from stagecast.config import Config
from tests.access import make_key
from tests.conditions import until
from tests.web.conftest import Open
from tests.web.pipeline import Pipeline

pytestmark = [pytest.mark.browser, pytest.mark.slow]

REFUSALS = (404, 429, 502, 503)

Handler = Callable[[Route], Coroutine[Any, Any, None]]


def answering(status: int, body: str = "<h1>from a proxy</h1>") -> Handler:
    async def answer(route: Route) -> None:
        await route.fulfill(status=status, content_type="text/html", body=body)

    return answer


async def abort(route: Route) -> None:
    await route.abort()


async def test_overview_is_filled_after_its_lists_were_refused(
    visit: Open, pipeline: Pipeline
) -> None:
    await pipeline.create("a.md")
    async with visit("/healthz") as tab:
        for status in REFUSALS:
            await tab.page.route("**/ListBatches", answering(status))
            async with tab.page.expect_response("**/ListBatches"):
                await tab.go("/")
            await tab.page.unroute("**/ListBatches")
            await tab.shows("#open", "batch-1")


@pytest.mark.parametrize("refused", ["**/GetBatch", "**/watch?*"])
async def test_page_tries_again_after_a_proxy_has_refused_it(
    visit: Open, pipeline: Pipeline, refused: str
) -> None:
    await pipeline.create("a.md")
    async with visit("/healthz") as tab:
        for status in REFUSALS:
            await tab.page.route(refused, answering(status))
            await tab.go(pipeline.path)
            await tab.shows("#connection", "trying again")
            await tab.page.unroute(refused)
            await tab.shows("#connection", "live")
            await tab.shows("#state", "pending")


async def test_page_that_a_proxy_forbids_says_so(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md")
    async with visit("/healthz") as tab:
        await tab.page.route("**/GetBatch", answering(403))
        await tab.go(pipeline.path)
        await tab.shows("#state", "cannot be shown")
        await tab.shows("#notice", "the server answered 403")
        await expect(tab.find("document-list")).to_be_hidden()


async def test_action_that_fails_says_why(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md")
    async with visit(pipeline.path) as tab:
        await tab.shows("#state", "pending")
        for handler, reason in (
            (answering(502), "the server answered 502"),
            (abort, "the server cannot be reached"),
            (answering(200, "cut"), "the connection was lost"),
        ):
            await tab.page.route("**/*ControlService/Stop", handler)
            await tab.button("Stop", within="#batch-actions").click()
            await tab.button("Stop", within="#confirm").click()
            await tab.shows("#notice", f"Stop failed, at least in part: {reason}")
            await tab.page.unroute("**/*ControlService/Stop")
        await tab.shows("#state", "pending")


async def test_timeline_that_cannot_be_read_says_so(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md")
    async with visit(pipeline.path) as tab:
        await tab.page.route("**/ListTransitions", answering(200, "cut"))
        await tab.row("a.md").locator("a").click()
        await tab.shows(".timeline-note", "The timeline cannot be read: the connection was lost")


async def test_deleted_batch_stays_deleted_and_offers_nothing(
    visit: Open, pipeline: Pipeline
) -> None:
    await pipeline.create("a.md", "b.md")
    await pipeline.fail("b.md")
    async with visit(f"{pipeline.path}#document=b.md") as tab:
        await tab.page.clock.install()
        await tab.shows(".timeline", "failed")
        await pipeline.client.delete_batch(*pipeline.name)
        await tab.shows("#notice", "This batch was deleted.")
        await expect(tab.page).to_have_title("deleted · batch-1 · stagecast")
        await tab.page.clock.run_for(5_000)  # it is painted every second
        await expect(tab.find("#state")).to_have_text("deleted")
        for name in ("Retry", "Stop", "Pause", "Retry failed", "Retry failed and stopped"):
            await expect(tab.button(name)).to_have_count(0)
        await tab.page.keyboard.press("r")
        await expect(tab.find("#confirm")).to_be_hidden()


async def test_dataset_without_batches_is_told_from_a_server_that_does_not_answer(
    visit: Open, pipeline: Pipeline
) -> None:
    await pipeline.create("a.md")
    async with visit("/") as tab:
        await tab.shows("#open", "batch-1")
        await pipeline.client.delete_batch(*pipeline.name)
        await tab.shows("#empty", "No batches yet")
        await expect(tab.find("#connection")).to_have_text("live")


class TestKeys:
    @pytest.fixture
    async def key(self, config: Config) -> str:
        return await make_key(config.db)

    async def test_signing_in_and_out_says_that_the_server_is_gone(
        self, visit: Open, key: str, server: App
    ) -> None:
        async with visit("/") as tab:
            await tab.page.route("**/session", answering(502))
            await tab.find("#key").fill(key)
            await tab.button("Sign in").click()
            await tab.shows("#problem", "the server answered 502")
            await tab.page.unroute("**/session")
            await tab.button("Sign in").click()
            await tab.shows("#empty", "No batches yet")
            await tab.page.route("**/session", abort)
            await tab.button("Sign out").click()
            await tab.shows("#sign-out", "the server cannot be reached, try again")
            await until(lambda: server.open_watches > 0)


@pytest.mark.parametrize("refused", ["**/GetBatch", "**/ListBatches", "**/watch?*"])
async def test_page_whose_calls_a_proxy_refuses_is_loaded_again_only_once(
    visit: Open, pipeline: Pipeline, refused: str
) -> None:
    await pipeline.create("a.md")
    async with visit("/healthz") as tab:
        await tab.page.route(refused, answering(401))
        await tab.go("/" if refused == "**/ListBatches" else pipeline.path)
        await tab.shows("#connection", "the calls of this page are refused")
        assert tab.loads == 3, "another path, the page, and the page again"
        if refused == "**/GetBatch":
            await tab.shows("#notice", "401")
