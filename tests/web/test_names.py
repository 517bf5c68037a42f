"""Names and ids as people and crawlers make them, and the address of a document."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

import stagecast
from tests.web.conftest import Open
from tests.web.pipeline import Pipeline
from tests.web.tab import Tab
from tests.web.test_access import PHONE

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ODD = (
    "https://example.com/a b?c=d&e=%2F#f",
    "100% done/50%25.md",
    "<b>\"bold\" & 'quoted'</b>.md",
    "حساب/٢٠٢٦.pdf",
    "  two  spaces  ",
    "..",
    "-v",
    "漢字とかな.txt",
    "👩‍👩‍👧.png",
    "x" * 256,
)


async def test_document_of_any_id_is_opened_by_click_and_by_address(
    visit: Open, pipeline: Pipeline
) -> None:
    await pipeline.create(*ODD)
    async with visit(pipeline.path) as tab:
        for document in ODD:  # the one that runs is the first of the list
            await pipeline.client.start_attempt(*pipeline.name, document, "worker-1")
            await tab.shows("document-list li:first-child", "running")
            await tab.find("document-list a").first.click()
            await _check_opened(tab, document)
            await tab.page.reload()
            await _check_opened(tab, document)
            await tab.page.keyboard.press("Escape")
            await pipeline.client.pause(*pipeline.name, document)
            await expect(tab.find("document-list .state.running")).to_have_count(0)


async def _check_opened(tab: Tab, document: str) -> None:
    await tab.shows(".timeline", "started by worker-1, attempt 1")
    assert await tab.find("document-drawer h2").text_content() == document
    await expect(tab.find("document-drawer .facts")).to_contain_text("worker-1")


async def test_long_names_fit_a_phone(visit: Open, pipeline: Pipeline, dataset_id: str) -> None:
    batch, worker = "b" * 128, "w" * 100
    await pipeline.client.create_batch(
        dataset_id, ["d" * 256], batch_id=batch, dataset_name="n" * 200, labels={}
    )
    name = dataset_id, batch
    await pipeline.client.start_attempt(*name, "d" * 256, worker)
    error = stagecast.DocumentError(reason="R" * 64, message="m" * 4096)
    report = stagecast.DocumentReport(document_id="d" * 256, error=error)
    await pipeline.client.report(*name, [report])
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    async with visit("/", **PHONE) as tab:
        await tab.shows("#recent", batch)
        assert await tab.page.evaluate(wide) == 0
        await tab.find("#recent a").click()
        await tab.shows("#attention", "1 document failed")
        assert await tab.page.evaluate(wide) == 0
        await tab.find("document-list a").click()
        await tab.shows(".timeline", "failed")
        body = "(body) => body.scrollWidth - body.clientWidth"
        assert await tab.find(".drawer-body").evaluate(body) == 0
        assert await tab.page.evaluate(wide) == 0
        await tab.check_accessibility()


async def test_name_from_right_to_left_does_not_turn_its_sentence_round(
    visit: Open, pipeline: Pipeline
) -> None:
    await pipeline.create("ملف.pdf", "b.md")
    await pipeline.fail("ملف.pdf", "b.md")
    async with visit(pipeline.path) as tab:
        await tab.shows("#attention", "\u2068ملف.pdf\u2069, b.md · first")


async def test_back_leads_from_the_document_to_the_list_and_to_the_overview(
    visit: Open, pipeline: Pipeline
) -> None:
    await pipeline.create("a.md", "b.md")
    async with visit("/") as tab:
        await tab.find("#open a").click()
        drawer = tab.find("document-drawer")
        await tab.row("a.md").locator("a").click()
        await tab.row("b.md").locator("a").click()
        await tab.shows("document-drawer h2", "b.md")
        await tab.page.go_back()
        await tab.shows("document-drawer h2", "a.md")
        await tab.page.go_back()
        await expect(drawer).to_be_hidden()
        await tab.page.go_forward()
        await tab.shows("document-drawer h2", "a.md")
        await tab.page.keyboard.press("Escape")
        await expect(drawer).to_be_hidden()
        assert tab.page.url.endswith("/batches/batch-1")
        await tab.page.go_back()
        await tab.shows("document-drawer h2", "a.md")
        await tab.page.go_back()
        await tab.page.go_back()
        await tab.shows("#open", "batch-1")


async def test_document_that_is_not_there_shows_nothing_of_the_one_before(
    visit: Open, pipeline: Pipeline
) -> None:
    await pipeline.create("a.md")
    await pipeline.fail("a.md")
    async with visit(f"{pipeline.path}#document=a.md") as tab:
        await tab.shows("document-drawer .error", "DECODE_ERROR")
        await tab.page.evaluate("location.hash = 'document=nothing'")
        await tab.shows(".timeline-note", "no document 'nothing'")
        await expect(tab.find("document-drawer h2")).to_have_text("nothing")
        for part in (".drawer-state", ".facts", ".error", ".drawer-body > .actions"):
            await expect(tab.find(f"document-drawer {part}")).to_be_hidden()
        await tab.page.evaluate("location.hash = 'document=%E0%A4%A'")  # no UTF-8
        await expect(tab.find("document-drawer")).to_be_hidden()


async def test_long_timeline_shows_its_end(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md")
    for _ in range(110):
        await pipeline.client.stop(*pipeline.name)
        await pipeline.client.retry(*pipeline.name)
    async with visit(f"{pipeline.path}#document=a.md") as tab:
        await tab.shows(".timeline-note", "121 earlier entries are left out")
        await expect(tab.find(".timeline li")).to_have_count(100)
        await pipeline.succeed("a.md")
        await expect(tab.find(".timeline li").last).to_contain_text("succeeded")
        await tab.shows(".timeline-note", "122 earlier entries are left out")
        await expect(tab.find(".timeline li")).to_have_count(100)


async def test_focus_stays_on_the_batch_when_others_come(
    visit: Open, pipeline: Pipeline, dataset_id: str
) -> None:
    await pipeline.create("a.md")
    async with visit("/") as tab:
        await tab.find("#open a").focus()
        await pipeline.client.create_batch(dataset_id, ["b.md"], batch_id="batch-2")
        await expect(tab.find("#open li")).to_have_count(2)
        await expect(tab.find("#open li").first).to_contain_text("batch-2")
        await expect(tab.find("#open a", has_text="batch-1")).to_be_focused()


async def test_focus_stays_on_the_group_when_others_come(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md", "b.md", "c.md")
    await pipeline.fail("a.md", reason="FIRST")
    async with visit(pipeline.path) as tab:
        await tab.button("Retry", within="#attention").focus()
        await pipeline.fail("b.md", "c.md", reason="SECOND")
        await expect(tab.find("#attention li").first).to_contain_text("SECOND")
        await expect(tab.find("#attention li").last).to_contain_text("FIRST")
        await expect(tab.button("Retry", within="#attention li:last-child")).to_be_focused()


async def test_skip_link_leads_to_the_content(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md")
    async with visit(pipeline.path) as tab:
        await expect(tab.row("a.md")).to_be_visible()
        await tab.page.keyboard.press("j")
        await expect(tab.row("a.md").locator("a")).to_be_focused()
        await tab.find(".skip").focus()
        await tab.page.keyboard.press("Enter")
        await expect(tab.find("#main")).to_be_focused()
