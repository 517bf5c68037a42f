"""The page of a batch: what it shows, and that it follows every transition by itself."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import expect

import stagecast
from stagecast.app import App
from stagecast.config import Config
from tests.clock import Clock
from tests.conditions import until
from tests.web.conftest import Open
from tests.web.pipeline import Pipeline

pytestmark = [pytest.mark.browser, pytest.mark.slow]


async def test_transitions_are_shown_without_a_reload(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md", "b.md")
    async with visit(pipeline.path) as tab:
        await expect(tab.row("a.md").locator(".state")).to_have_text("pending")
        await tab.shows("#line", "waiting for a worker")
        for stage in ("parsing", "cleaning", "splitting", "indexing"):
            await pipeline.enter(stagecast.Stage[stage.upper()], "a.md")
            await expect(tab.row("a.md").locator(".stage")).to_have_text(stage)
        await pipeline.count("a.md", 3, 12)
        await expect(tab.row("a.md").locator(".cell-chunks")).to_have_text("3 of 12 chunks")
        await tab.shows("#state", "running")
        await pipeline.succeed("a.md", "b.md")
        await tab.shows("#state", "succeeded")
        await tab.shows("#line", "2 of 2 documents")
        await tab.shows("#line", "took")
        assert tab.loads == 1


async def test_title_and_icon_show_progress(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md", "b.md")
    async with visit(pipeline.path) as tab:
        await expect(tab.page).to_have_title("0% · batch-1 · stagecast")
        await pipeline.succeed("a.md")
        await expect(tab.page).to_have_title("50% · batch-1 · stagecast")
        icon = tab.find('link[rel="icon"]')
        await expect(icon).to_have_attribute("href", "/icons/running-10.svg")
        await pipeline.fail("b.md")
        await expect(tab.page).to_have_title("partially succeeded · batch-1 · stagecast")
        await expect(icon).to_have_attribute("href", "/icons/attention-20.svg")


async def test_needs_attention_appears_only_when_something_does(
    visit: Open, pipeline: Pipeline
) -> None:
    await pipeline.create("a.md", "b.md", "c.md", stall_after=1)
    async with visit(pipeline.path) as tab:
        await tab.shows("#state", "pending")
        await expect(tab.find("#attention")).to_be_hidden()
        await pipeline.enter(stagecast.Stage.PARSING, "a.md", "b.md")
        await pipeline.fail("a.md", "b.md")
        await tab.shows("#attention", "2 documents failed in parsing: DECODE_ERROR")
        await pipeline.client.start_attempt(*pipeline.name, "c.md", "worker-7")
        await tab.shows("#attention", "1 document stalled at worker-7")
        await tab.button("Show", within="#attention li:first-child").click()
        await expect(tab.row("c.md")).to_have_count(0)
        assert sorted(await tab.names()) == ["a.md", "b.md"]


async def test_shown_group_is_named_as_it_is_now(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md", "b.md", "c.md")
    await pipeline.fail("a.md")
    narrow = {"width": 390, "height": 800}
    async with visit(pipeline.path, viewport=narrow) as tab:
        await expect(tab.button("Show all")).to_be_hidden()
        await tab.button("Show", within="#attention").click()
        await expect(tab.find("#shown")).to_have_text("1 document failed in waiting: DECODE_ERROR")
        await pipeline.fail("b.md")
        await expect(tab.find("#shown")).to_have_text("2 documents failed in waiting: DECODE_ERROR")
        await expect(tab.find("#filter option:checked")).to_have_text("This group (2)")
        await pipeline.client.retry(*pipeline.name)
        await expect(tab.find("#shown")).to_have_text("none left of this group")
        await tab.button("Show all").click()
        await expect(tab.find("document-list li")).to_have_count(3)
        await expect(tab.find("#filter option:checked")).to_have_text("All (3)")
        await expect(tab.button("Show all")).to_be_hidden()
        await tab.check_accessibility()


async def test_document_that_no_worker_takes_needs_attention(
    visit: Open, pipeline: Pipeline
) -> None:
    await pipeline.create("a.md", start_after=1)
    async with visit(pipeline.path) as tab:
        await tab.shows("#attention", "1 document not taken by any worker")


async def test_no_estimate_says_why(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md", "b.md", sealed=False)
    async with visit(pipeline.path) as tab:
        await pipeline.enter(stagecast.Stage.PARSING, "a.md")
        await tab.shows("#line", "no estimate while documents may be added")
        await pipeline.client.pause(*pipeline.name)
        await pipeline.client.seal_batch(*pipeline.name)
        await tab.shows("#line", "no estimate while paused")


async def test_failed_documents_are_retried_after_a_question(
    visit: Open, pipeline: Pipeline
) -> None:
    await pipeline.create("a.md", "b.md")
    await pipeline.fail("a.md", "b.md")
    async with visit(pipeline.path) as tab:
        await tab.button("Retry", within="#attention").click()
        await tab.shows("#confirm", "Retry 2 documents?")
        await tab.button("Cancel", within="#confirm").click()
        await expect(tab.find("#confirm")).to_be_hidden()
        await expect(tab.row("a.md").locator(".state")).to_have_text("failed")
        await tab.button("Retry", within="#attention").click()
        await tab.button("Retry", within="#confirm").click()
        await expect(tab.row("a.md").locator(".state")).to_have_text("pending")
        await tab.noticed(
            "2 documents are pending again; a worker takes them up when it next runs."
        )
        await tab.shows("#line", "waiting for a worker")
        await expect(tab.find("#attention")).to_be_hidden()


async def test_retry_of_a_batch_is_named_by_what_there_is_to_retry(
    visit: Open, pipeline: Pipeline
) -> None:
    await pipeline.create("a.md", "b.md", "c.md")
    await pipeline.fail("a.md")
    async with visit(pipeline.path) as tab:
        await expect(tab.button("Retry failed", within="#batch-actions")).to_be_visible()
        await tab.shows("#line", "heard")
        await pipeline.client.stop(*pipeline.name)
        await expect(tab.button("Retry failed and stopped")).to_be_visible()
        await expect(tab.find("#line")).not_to_contain_text("heard")
        await tab.button("Retry", within="#attention").click()
        await tab.button("Retry", within="#confirm").click()
        await tab.noticed("1 document is pending again; a worker takes it up when it next runs.")
        await expect(tab.button("Retry stopped")).to_be_visible()


async def test_batch_is_paused_resumed_and_stopped(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md", "b.md")
    async with visit(pipeline.path) as tab:
        for action, state in (("Pause", "paused"), ("Resume", "pending"), ("Stop", "stopped")):
            await tab.button(action, within="#batch-actions").click()
            await tab.button(action, within="#confirm").click()
            await tab.shows("#state", state)


async def test_list_is_filtered_and_searched(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("letters/a.md", "letters/b.md", "notes/c.md")
    await pipeline.fail("notes/c.md", message="The layer is encrypted.")
    async with visit(pipeline.path) as tab:
        await expect(tab.find("document-list li")).to_have_count(3)
        assert (await tab.names())[0] == "notes/c.md", "what needs attention is first"
        await tab.find("#search").fill("letters")
        await expect(tab.find("document-list li")).to_have_count(2)
        await tab.find("#search").fill("ENCRYPTED")
        await expect(tab.row("notes/c.md")).to_have_count(1)
        await tab.find("#search").fill("nothing")
        await tab.shows("document-list", "No document matches the search.")
        await tab.find("#search").fill("")
        await tab.find("#filter").select_option("pending")
        await expect(tab.find("document-list li")).to_have_count(2)


async def test_row_has_its_attempt_and_its_whole_names(visit: Open, pipeline: Pipeline) -> None:
    name, worker = f"{'folder/' * 20}a.md", f"worker-{'7' * 60}"
    await pipeline.create(name)
    for _ in range(2):
        await pipeline.client.start_attempt(*pipeline.name, name, worker)
        await pipeline.fail(name)
        await pipeline.client.retry(*pipeline.name)
    await pipeline.client.start_attempt(*pipeline.name, name, worker)
    async with visit(pipeline.path, viewport={"width": 1280, "height": 800}) as tab:
        attempt = tab.row(name).locator(".attempt")
        await expect(attempt).to_have_text(re.compile("^attempt "))
        assert await attempt.evaluate("(one) => one.scrollWidth <= one.clientWidth")
        cell = "(one) => one.getBoundingClientRect().right"
        ends = [
            await one.evaluate(cell) for one in (attempt, tab.row(name).locator(".cell-worker"))
        ]
        assert ends[0] <= ends[1]
        await expect(tab.row(name).locator(".name")).to_have_attribute("title", name)
        await expect(tab.row(name).locator(".worker")).to_have_attribute("title", worker)


async def test_drawer_shows_the_history_and_the_whole_error(
    visit: Open, pipeline: Pipeline, server: App
) -> None:
    await pipeline.create("it's.md")
    await pipeline.client.start_attempt(*pipeline.name, "it's.md", "worker-7")
    await pipeline.enter(stagecast.Stage.SPLITTING, "it's.md")
    async with visit(pipeline.path) as tab:
        await tab.row("it's.md").locator("a").click()
        await tab.shows("document-drawer h2", "it's.md")
        entries = tab.find(".timeline li > span")
        expected = ["registered", "started by worker-7, attempt 1", "splitting"]
        await expect(entries).to_have_text(expected)
        await pipeline.fail("it's.md")
        await expect(entries).to_have_text([*expected, "failed in splitting: DECODE_ERROR"])
        await expect(tab.find("document-drawer pre")).to_have_text("Page 3\nis no text.")
        quoted = """'it'"'"'s.md'"""
        command = (
            f"stagecast history --grpc {server.grpc_address} {pipeline.name[0]} batch-1 {quoted}"
        )
        await expect(tab.find("document-drawer code")).to_have_text(command)
        await tab.page.reload()
        await tab.shows("document-drawer h2", "it's.md")
        await tab.button("Close", within="document-drawer").click()
        await expect(tab.find("document-drawer")).to_be_hidden()


async def test_error_and_command_are_copied(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md")
    await pipeline.fail("a.md")
    permissions = ["clipboard-read", "clipboard-write"]
    async with visit(f"{pipeline.path}#document=a.md", permissions=permissions) as tab:
        await tab.button("Copy the error").click()
        await expect(tab.button("Copied")).to_be_visible()
        copied = await tab.page.evaluate("navigator.clipboard.readText()")
        assert copied == "DECODE_ERROR: Page 3\nis no text."


async def test_stages_have_counts_and_median_times(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md", "b.md", "c.md")
    async with visit(pipeline.path) as tab:
        await pipeline.enter(stagecast.Stage.PARSING, "a.md", "b.md")
        parsing = tab.find("#stages li", has_text=re.compile("^parsing"))
        await expect(parsing.locator(".stage-count")).to_have_text("2")
        await expect(parsing.locator(".stage-time")).to_have_text("no time yet")
        await pipeline.enter(stagecast.Stage.CLEANING, "a.md")
        await expect(parsing.locator(".stage-time")).to_contain_text("median")


async def test_stage_that_was_skipped_has_no_time(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md", "b.md")
    async with visit(pipeline.path) as tab:
        await expect(tab.row("a.md")).to_be_visible()
        await pipeline.enter(stagecast.Stage.PARSING, "a.md")
        await pipeline.enter(stagecast.Stage.INDEXING, "a.md")
        times = tab.find("#stages .stage-time")
        some = re.compile("^median ")
        await expect(times).to_have_text([some, some, "skipped", "skipped", "no time yet"])
        await pipeline.succeed("b.md")
        await expect(times).to_have_text([some, some, "skipped", "skipped", "no time yet"])
        await pipeline.succeed("a.md")
        await expect(times).to_have_text([some, some, "skipped", "skipped", some])


async def test_stage_that_was_entered_and_left_at_one_time_is_not_called_skipped(
    visit: Open, pipeline: Pipeline
) -> None:
    await pipeline.create("a.md", "b.md")
    stages = [stagecast.Stage[one] for one in ("PARSING", "SPLITTING", "INDEXING", "COMPLETED")]

    async def run(document: str) -> None:
        reports = [stagecast.DocumentReport(document_id=document, stage=one) for one in stages]
        await pipeline.client.report(*pipeline.name, reports)

    some = re.compile("^median ")
    async with visit(pipeline.path) as tab:
        await expect(tab.row("a.md")).to_be_visible()
        await run("a.md")
        brief = "median under 0.1 s"
        times = tab.find("#stages .stage-time")
        await expect(times).to_have_text([some, brief, "skipped", brief, brief])
        await tab.page.reload()  # a page that has not seen it cannot know
        await expect(times).to_have_text([some, *4 * ["\u2013"]])
        await pipeline.fail("b.md")
        await tab.shows("#attention", "1 document failed in waiting")
        await expect(times).to_have_text([some, *4 * ["\u2013"]])


async def test_deleted_batch_is_told(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md")
    async with visit(pipeline.path) as tab:
        await tab.shows("#state", "pending")
        await pipeline.client.delete_batch(*pipeline.name)
        await tab.shows("#notice", "This batch was deleted.")
        await expect(tab.find("#connection")).to_have_text("not connected")


async def test_unknown_batch_is_told(visit: Open, pipeline: Pipeline) -> None:
    async with visit(pipeline.path) as tab:
        await tab.shows("#state", "not there")
        await tab.shows("#notice", "no batch")
        await expect(tab.find("#bar i:visible, #bar .legend span:visible")).to_have_count(0)
        await expect(tab.find("document-list")).to_be_hidden()


async def test_hidden_tab_lets_go_of_its_stream_and_resumes(
    visit: Open, pipeline: Pipeline, server: App
) -> None:
    await pipeline.create("a.md")
    async with visit("/") as tab:
        await tab.page.clock.install()
        await tab.page.goto(f"http://{server.http_address}{pipeline.path}")
        await tab.shows("#connection", "live")
        await tab.set_visibility("hidden")
        await tab.page.clock.fast_forward(61_000)
        await until(lambda: server.open_watches == 0)
        await pipeline.enter(stagecast.Stage.INDEXING, "a.md")
        await tab.set_visibility("visible")
        await expect(tab.row("a.md").locator(".stage")).to_have_text("indexing")
        assert "resume_token=" in [url for url in tab.urls if "/watch?" in url][-1]
        await expect(tab.find("#notice")).to_be_hidden()


async def test_tab_opened_in_the_background_lets_go_of_its_stream(
    visit: Open, pipeline: Pipeline, server: App
) -> None:
    await pipeline.create("a.md")
    async with visit("/") as tab:
        await tab.page.clock.install()
        hidden = (
            "Object.defineProperty(document, 'visibilityState', { value: 'hidden', writable: 1 })"
        )
        await tab.page.add_init_script(hidden)
        await tab.page.goto(f"http://{server.http_address}{pipeline.path}")
        await tab.shows("#connection", "live")
        await tab.page.clock.fast_forward(61_000)
        await tab.shows("#connection", "paused while hidden")
        await until(lambda: server.open_watches == 0)


class TestOtherClock:
    @pytest.fixture
    async def server(self, config: Config, clock: Clock) -> AsyncIterator[App]:
        """A server whose clock is weeks behind that of the browser."""
        async with App(config, clock=clock) as app:
            yield app

    async def test_drawer_tells_times_by_the_clock_of_the_server(
        self, visit: Open, pipeline: Pipeline, server: App
    ) -> None:
        await pipeline.create("a.md")
        async with visit("/") as tab:
            await tab.page.clock.install()
            await tab.page.goto(f"http://{server.http_address}{pipeline.path}")
            await expect(tab.row("a.md")).to_be_visible()
            await tab.page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))  # no painting
            await tab.page.evaluate("location.hash = 'document=a.md'")
            await tab.shows(".timeline", "registered")
            await expect(tab.find(".since")).to_have_text(
                re.compile("^last change .* (s|min) ago$")
            )


class TestLimit:
    @pytest.fixture
    def config(self, config: Config) -> Config:
        return replace(config, max_watches_per_caller=1)

    async def test_limit_of_streams_is_told(self, visit: Open, pipeline: Pipeline) -> None:
        await pipeline.create("a.md")
        async with visit("/") as first, visit(pipeline.path) as second:
            await second.shows("#connection", "too many streams are open, trying again")
            await first.page.goto("about:blank")
            await second.shows("#connection", "live")


class TestTrimmedHistory:
    @pytest.fixture
    def config(self, config: Config) -> Config:
        return replace(config, retain_transitions=1, retain_every_s=0.05)

    @pytest.fixture
    async def server(self, config: Config, clock: Clock) -> AsyncIterator[App]:
        async with App(config, clock=clock) as app:
            yield app

    async def test_missed_history_is_told(
        self, visit: Open, pipeline: Pipeline, server: App, clock: Clock
    ) -> None:
        await pipeline.create("a.md")
        async with visit("/") as tab:
            await tab.page.clock.install()
            page = f"http://{server.http_address}{pipeline.path}#document=a.md"
            await tab.page.goto(page)
            await tab.shows("#connection", "live")
            await tab.shows(".timeline", "registered")
            await tab.set_visibility("hidden")
            await tab.page.clock.fast_forward(61_000)
            await until(lambda: server.open_watches == 0)
            await pipeline.enter(stagecast.Stage.INDEXING, "a.md")
            await pipeline.succeed("a.md")
            clock.advance(3_600)
            await self._wait_until_trimmed(pipeline)
            await tab.set_visibility("visible")
            await tab.shows("#notice", "Some history was missed")
            await expect(tab.row("a.md").locator(".state")).to_have_text("succeeded")
            await expect(tab.find(".timeline li > span")).to_have_text(["succeeded"])
            await tab.shows(".timeline-note", "no longer retained")

    async def _wait_until_trimmed(self, pipeline: Pipeline) -> None:
        revisions: list[int] = []

        async def read() -> None:
            history = pipeline.client.history(*pipeline.name)
            revisions[:] = [one.revision async for one in history]

        await until(lambda: revisions == revisions[-1:] != [], meanwhile=read)
