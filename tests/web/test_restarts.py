"""The page and a server that is killed: told, resumed, and nothing missed."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

import stagecast
from tests.process import free_address, running
from tests.web.pipeline import Pipeline
from tests.web.tab import Tab, opened

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DOCUMENTS = [f"letter-{number:02}.md" for number in range(12)]
ALL_ROWS = {"width": 1280, "height": 2000}


async def test_page_agrees_with_the_log_after_a_server_was_killed(
    browser: Browser, tmp_path: Path, dataset_id: str
) -> None:
    db, grpc, http = tmp_path / "stagecast.db", free_address(), free_address()
    async with stagecast.AsyncClient(grpc) as client:
        pipeline = Pipeline(client, dataset_id)
        async with running(db, grpc=grpc, http=http) as server:
            await pipeline.create(*DOCUMENTS)
            url = f"http://{http}{pipeline.path}#document={DOCUMENTS[0]}"
            async with opened(browser, url, viewport=ALL_ROWS) as tab:
                await tab.shows("#connection", "live")
                await pipeline.enter(stagecast.Stage.PARSING, *DOCUMENTS[:6])
                await server.kill()
                await tab.shows("#connection", "connection lost")
                async with running(db, grpc=grpc, http=http) as server:
                    await _go_on(pipeline)
                    await server.kill()
                    async with running(db, grpc=grpc, http=http):
                        await _end(pipeline)
                        await tab.shows("#connection", "live")
                        await tab.noticed("Connected again; nothing was missed.")
                        await tab.shows("#state", "partially succeeded")
                        await _compare(tab, pipeline)
                        assert tab.loads == 1


async def _go_on(pipeline: Pipeline) -> None:
    await pipeline.enter(stagecast.Stage.SPLITTING, *DOCUMENTS[:3])
    await pipeline.count(DOCUMENTS[0], 4, 9)
    await pipeline.fail(DOCUMENTS[4])
    await pipeline.client.pause(*pipeline.name, DOCUMENTS[5])


async def _end(pipeline: Pipeline) -> None:
    await pipeline.client.resume(*pipeline.name)
    await pipeline.enter(stagecast.Stage.INDEXING, *DOCUMENTS[:2])
    await pipeline.client.stop(*pipeline.name, DOCUMENTS[3])
    await pipeline.succeed(*(one for one in DOCUMENTS if one not in (DOCUMENTS[3], DOCUMENTS[4])))


async def _compare(tab: Tab, pipeline: Pipeline) -> None:
    """Compare every row with the document, and the timeline with the history."""
    async for document in pipeline.client.list_documents(*pipeline.name):
        row = tab.row(document.document_id)
        await expect(row.locator(".state")).to_have_text(document.state.name.lower())
        await expect(row.locator(".stage")).to_have_text(document.stage.name.lower())
    history = [one async for one in pipeline.client.history(*pipeline.name, DOCUMENTS[0])]
    kinds = [one.kind.name.lower().replace("_", "-") for one in history]
    entries = tab.find(".timeline li")
    await expect(entries).to_have_count(len(kinds))
    shown = await entries.evaluate_all("(entries) => entries.map((one) => one.className)")
    assert shown == kinds


async def test_overview_comes_back_after_a_server_was_killed(
    browser: Browser, tmp_path: Path, dataset_id: str
) -> None:
    db, grpc, http = tmp_path / "stagecast.db", free_address(), free_address()
    async with (
        stagecast.AsyncClient(grpc) as client,
        running(db, grpc=grpc, http=http) as server,
        opened(browser, f"http://{http}/") as tab,
    ):
        await tab.shows("#empty", "No batches yet")
        await server.kill()
        await tab.shows("#connection", "connection lost")
        async with running(db, grpc=grpc, http=http):
            await Pipeline(client, dataset_id).create("a.md")
            await tab.shows("#open", "batch-1")
