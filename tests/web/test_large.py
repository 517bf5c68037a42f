"""Many documents: few nodes, few paintings, and pages from the server when there are too many."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

import stagecast
from stagecast.app import App
from tests.web.conftest import Open
from tests.web.pipeline import Pipeline
from tests.web.tab import Tab

pytestmark = [pytest.mark.browser, pytest.mark.slow]

MAX_NODES = 2_000
MAX_ROWS = 720 / 48 + 2 * 12 + 2  # on the screen, and around it
MAX_DOCUMENTS = 2_000  # of an event, after which others get their turn


async def test_ten_thousand_documents_take_few_nodes(visit: Open, pipeline: Pipeline) -> None:
    names = [f"page-{number:05}.html" for number in range(10_000)]
    await pipeline.create(*names)
    await pipeline.fail(*names[:500])
    async with visit(pipeline.path) as tab:
        await tab.shows("#line", "500 of 10,000 documents")
        await expect(tab.row("page-00000.html")).to_be_visible()
        count = "document.querySelectorAll('*').length"
        assert await tab.page.evaluate(count) < MAX_NODES
        await tab.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        await expect(tab.row("page-09999.html")).to_be_visible()
        assert await tab.page.evaluate(count) < MAX_NODES
        await pipeline.enter(stagecast.Stage.PARSING, *names[9_000:])
        await tab.shows("#stages", "1,000")
        last = tab.find("document-list li").last
        assert await last.get_attribute("aria-setsize") == "10000"
        await tab.find("#search").fill("page-05555")
        await expect(tab.row("page-05555.html")).to_be_visible()


async def test_no_task_handles_all_of_ten_thousand_documents_more_than_once(
    visit: Open, pipeline: Pipeline, server: App
) -> None:
    """Work is counted, not timed: what each task does with all documents takes some 20 ms."""
    names = [f"page-{number:05}.html" for number in range(10_000)]
    await pipeline.create(*names)
    async with visit("/healthz", viewport={"width": 1280, "height": 720}) as tab:
        take_calls = await tab.count_calls()
        await tab.page.goto(f"http://{server.http_address}{pipeline.path}")
        await tab.shows("#line", "0 of 10,000 documents")
        for start in range(0, 10_000, 1_000):
            await pipeline.succeed(*names[start : start + 1_000])
            await tab.shows("#line", f"{start + 1_000:,} of 10,000 documents")
        await expect(tab.find("#filter option").first).to_have_text("All (10,000)")
        await expect(tab.find("#filter option:checked")).to_have_text("All (10,000)")
        await expect(tab.find("#stages .stage-count").first).to_have_text("0")
        calls = await take_calls()
    paintings = calls["batch.js paint"]
    passes = sum(calls[f"batch.js {job}"] for job in ("countDone", "group", "order", "paintStages"))
    assert 4 <= passes <= paintings + 1, "one at a painting, and one with the snapshot"
    assert calls["list.js fillDocument"] <= MAX_ROWS * paintings
    assert calls["list.js fill"] <= MAX_ROWS * paintings
    documents = 10_000 + 10_000  # of the snapshot, and of the transitions
    assert calls["store.js toDocument"] == documents, "each is converted once, when it arrives"
    assert calls["events.js nextTask"] >= documents / MAX_DOCUMENTS


async def test_page_is_painted_at_most_ten_times_a_second(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md")
    async with visit(pipeline.path) as tab:
        await tab.shows("#state", "pending")
        static = (await tab.find("script").get_attribute("src") or "").rpartition("/")[0]
        paintings, seconds = await tab.page.evaluate(
            """async (path) => {
              const { painter } = await import(path);
              let paintings = 0;
              const schedule = painter(() => { paintings += 1; });
              const start = performance.now();
              while (performance.now() - start < 1000) {
                schedule();
                await new Promise((resolve) => setTimeout(resolve));
              }
              return [paintings, (performance.now() - start) / 1000];
            }""",
            f"{static}/paint.js",
        )
        assert 1 <= paintings <= 10 * seconds + 1


async def test_more_than_twenty_thousand_documents_are_listed_by_the_server(
    visit: Open, pipeline: Pipeline, server: App
) -> None:
    names = await _create_many(pipeline, 20_001)
    await pipeline.fail(names[20_000])
    await pipeline.enter(stagecast.Stage.PARSING, names[19_999])
    async with visit("/") as tab:
        await tab.page.clock.install()
        await tab.page.goto(f"http://{server.http_address}{pipeline.path}")
        await tab.shows("#line", "1 of 20,001 documents")
        await tab.shows("#attention", "1 document failed in waiting")
        await tab.shows("#attention", "1 document stalled")
        watches = [url for url in tab.urls if "/batch-1/watch?" in url]
        assert all("resume_token=" in url for url in watches), "no snapshot of all"
        await expect(tab.row("page-00000.html")).to_be_visible()
        await tab.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        await expect(tab.find("document-list li").last).to_have_attribute("aria-setsize", "1000")
        await pipeline.succeed(names[0])
        await tab.shows("#line", "2 of 20,001 documents")
        await tab.find("#filter").select_option("succeeded")
        await expect(tab.row("page-00000.html")).to_be_visible()
        await expect(tab.find("document-list li")).to_have_count(1)
        await tab.find("#search").fill("page-15000")
        await tab.shows("document-list", "the others are not searched.")
        await tab.find("#search").fill("")
        await _check_that_a_failed_page_is_read_again(tab)


async def test_stages_of_thirty_thousand_documents_are_counted(
    visit: Open, pipeline: Pipeline
) -> None:
    names = await _create_many(pipeline, 30_000)
    await pipeline.enter(stagecast.Stage.INDEXING, *names[10_000:11_000])
    await pipeline.enter(stagecast.Stage.INDEXING, *names[11_000:11_500])  # more than a page
    await pipeline.enter(stagecast.Stage.PARSING, *names[:10])
    await pipeline.succeed(*names[20_000:21_000])
    await pipeline.client.pause(*pipeline.name, names[0])
    await pipeline.client.pause(*pipeline.name, names[29_999])
    async with visit(pipeline.path) as tab:
        await _check_stages(tab, 27_490, 10, 0, 0, 1_500)
        await tab.shows("#stages-note", "No times are shown")
        await tab.page.set_viewport_size({"width": 390, "height": 780})
        heights = "(counts) => counts.map((one) => one.getBoundingClientRect().height)"
        lines = await tab.find("#stages .stage-count").evaluate_all(heights)
        assert len(set(lines)) == 1, "27,490 is in one line"
        await pipeline.succeed(*names[10_000:11_000])
        await pipeline.enter(stagecast.Stage.CLEANING, *names[:20])
        await _check_stages(tab, 27_480, 0, 20, 0, 500)
        await pipeline.enter(stagecast.Stage.CLEANING, names[25_000])  # which is not listed
        await _check_stages(tab, 27_479, 0, 21, 0, 500)
        await pipeline.client.stop(*pipeline.name)
        await _check_stages(tab, 0, 0, 0, 0, 0)
        await pipeline.client.retry(*pipeline.name)
        await _check_stages(tab, 28_000, 0, 0, 0, 0)
        assert await tab.page.evaluate("document.querySelectorAll('*').length") < MAX_NODES


async def _create_many(pipeline: Pipeline, documents: int) -> list[str]:
    """Create a batch in several calls, and return the names of its documents."""
    names = [f"page-{number:05}.html" for number in range(documents)]
    await pipeline.create(*names[:10_000], sealed=False, stall_after=1)
    for start in range(10_000, documents, 10_000):
        await pipeline.client.add_documents(*pipeline.name, names[start : start + 10_000])
    await pipeline.client.seal_batch(*pipeline.name)
    return names


async def _check_stages(tab: Tab, *counts: int) -> None:
    shown = [f"{count:,}" for count in counts]
    await expect(tab.find("#stages .stage-count")).to_have_text(shown)


async def _check_that_a_failed_page_is_read_again(tab: Tab) -> None:
    """Let a page fail, as while the server is away, and come back to it with the stream."""
    await tab.page.route("**/ListDocuments", lambda route: route.abort())
    await tab.find("#filter").select_option("pending")
    await tab.shows("document-list", "No such documents.")
    await tab.set_visibility("hidden")
    await tab.page.clock.fast_forward(61_000)
    await tab.shows("#connection", "paused while hidden")
    await tab.page.unroute("**/ListDocuments")
    await tab.set_visibility("visible")
    await expect(tab.row("page-00001.html")).to_be_visible()
