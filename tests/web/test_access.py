"""The page for everybody: by keyboard alone, on a phone, in the dark, and for screen readers."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

import stagecast
from tests.web.conftest import Open
from tests.web.pipeline import Pipeline
from tests.web.tab import Tab

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
MIN_TARGET = 44


@pytest.fixture
async def lively(pipeline: Pipeline) -> Pipeline:
    """A batch with a document in every state."""
    names = "failed", "running", "stalled", "paused", "stopped", "done", "pending"
    await pipeline.create(*(f"{name}.md" for name in names), stall_after=1)
    await pipeline.client.start_attempt(*pipeline.name, "stalled.md", "worker-1")
    await pipeline.enter(stagecast.Stage.PARSING, "failed.md", "running.md")
    await pipeline.fail("failed.md")
    await pipeline.client.pause(*pipeline.name, "paused.md")
    await pipeline.client.stop(*pipeline.name, "stopped.md")
    await pipeline.succeed("done.md")
    return pipeline


async def test_page_is_used_by_keyboard_alone(visit: Open, pipeline: Pipeline) -> None:
    await pipeline.create("a.md", "b.md", "c.md")
    await pipeline.fail("c.md")
    async with visit(pipeline.path) as tab:
        press = tab.page.keyboard.press
        await expect(tab.find("document-list li")).to_have_count(3)
        await press("j")
        await expect(tab.row("c.md").locator("a")).to_be_focused()
        await press("j")
        await expect(tab.row("a.md").locator("a")).to_be_focused()
        await press("k")
        await press("Enter")  # at once
        await tab.shows("document-drawer h2", "c.md")
        await expect(tab.find("document-drawer h2")).to_be_focused()
        await press("Escape")
        await expect(tab.find("document-drawer")).to_be_hidden()
        await expect(tab.row("c.md").locator("a")).to_be_focused()
        await press("r")
        await tab.shows("#confirm", "Retry “c.md”?")
        await press("Escape")
        await expect(tab.find("#confirm")).to_be_hidden()
        await press("f")
        await expect(tab.find("document-list li")).to_have_count(1)
        await press("Escape")
        await expect(tab.find("document-list li")).to_have_count(3)
        await press("/")
        await expect(tab.find("#search")).to_be_focused()
        await tab.page.keyboard.type("b.md")
        await expect(tab.find("document-list li")).to_have_count(1)
        await press("Escape")
        await expect(tab.find("#search")).to_have_value("")
        await press("?")
        await expect(tab.find("#keys")).to_be_visible()
        await press("Escape")
        await expect(tab.find("#keys")).to_be_hidden()


async def _check_states(tab: Tab) -> None:
    """Wait for every state, and check that each is a word beside its colour."""
    for name in ("failed", "running", "stalled", "paused", "stopped", "pending"):
        await expect(tab.row(f"{name}.md").locator(".state")).to_have_text(name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_no_violation(visit: Open, lively: Pipeline, scheme: str) -> None:
    async with visit(lively.path, color_scheme=scheme, reduced_motion="reduce") as tab:
        # It stalls a second later, too, if nobody reports on it.
        await tab.shows("#attention", "stalled")
        await tab.check_accessibility()
        await tab.row("failed.md").locator("a").click()
        await tab.shows(".timeline", "failed")
        await tab.check_accessibility()
        await tab.button("Close", within="document-drawer").click()
        await tab.page.keyboard.press("?")
        await tab.check_accessibility()


async def test_colours_follow_the_system(visit: Open, lively: Pipeline) -> None:
    lightness = """getComputedStyle(document.body).backgroundColor.match(/\\d+/g)
        .reduce((sum, part) => sum + Number(part), 0) / 3"""
    async with visit(lively.path, color_scheme="dark") as tab:
        assert await tab.page.evaluate(lightness) < 60
        await tab.page.emulate_media(color_scheme="light")
        assert await tab.page.evaluate(lightness) > 200


async def test_nothing_moves_for_those_who_want_that(visit: Open, lively: Pipeline) -> None:
    async with visit(lively.path, reduced_motion="reduce") as tab:
        await tab.shows("#attention", "failed")
        moving = await tab.page.evaluate(
            """[...document.querySelectorAll("*")].filter((one) => {
              const { transitionProperty, animationName } = getComputedStyle(one);
              return animationName !== "none" || !["none", "all"].includes(transitionProperty);
            }).length"""
        )
        assert moving == 0


async def test_page_fits_a_phone(visit: Open, lively: Pipeline) -> None:
    async with visit(lively.path, **PHONE) as tab:
        await tab.shows("#attention", "failed")
        await expect(tab.row("failed.md")).to_be_visible()
        await _check_phone(tab)
        await tab.row("failed.md").locator("a").click()
        await tab.shows(".timeline", "failed")
        width = await tab.find("document-drawer").evaluate("(drawer) => drawer.clientWidth")
        assert width == 390
        await _check_phone(tab)
        await tab.check_accessibility()


async def test_page_beside_the_drawer_is_used_after_a_tablet_was_turned(
    visit: Open, lively: Pipeline
) -> None:
    async with visit(lively.path, viewport={"width": 768, "height": 1024}) as tab:
        await tab.row("failed.md").locator("a").click()
        await tab.shows(".timeline", "failed")
        await expect(tab.find("#main")).to_have_js_property("inert", True)
        await tab.page.set_viewport_size({"width": 1024, "height": 768})
        await expect(tab.find("#main")).to_have_js_property("inert", False)


async def test_drawer_covers_nothing_of_a_wide_screen(visit: Open, lively: Pipeline) -> None:
    async with visit(lively.path, viewport={"width": 1600, "height": 900}) as tab:
        await tab.row("failed.md").locator("a").click()
        await tab.shows(".timeline", "failed")
        await tab.button("Stop", within="#batch-actions").click(trial=True)
        await tab.find("#help").click(trial=True)
        assert (
            await tab.find("#main").evaluate("(main) => main.scrollWidth - main.clientWidth") == 0
        )


async def test_nothing_behind_the_drawer_of_a_phone_gets_the_focus(
    visit: Open, lively: Pipeline
) -> None:
    async with visit(lively.path, **PHONE) as tab:
        await tab.row("failed.md").locator("a").click()
        await tab.shows(".timeline", "failed")
        behind = "document.activeElement.matches('.skip, .top *, #main *')"
        for _ in range(12):  # more than the drawer has to stop at
            await tab.page.keyboard.press("Tab")
            assert not await tab.page.evaluate(behind)


async def _check_phone(tab: Tab) -> None:
    """Check that nothing is wider than the screen, and that fingers hit every target."""
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await tab.page.evaluate(wide) == 0
    small = await tab.page.evaluate(
        """(min) => [...document.querySelectorAll("button, select, input, a.row, a.brand, .card")]
          .filter((one) => one.checkVisibility())
          .map((one) => [one.outerHTML.slice(0, 80), one.getBoundingClientRect()])
          .filter(([, box]) => box.height < min || box.width < min)
          .map(([html, box]) => `${html} ${box.width} x ${box.height}`)""",
        MIN_TARGET,
    )
    assert small == []
