"""A page in a browser, which notes whatever goes wrong in it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urljoin

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Response,
    expect,
)

from tests.conditions import until

WITHIN_MS = 30_000

# In every document: what the policy of the page has blocked, and the notices, which pass.
_TAKE_NOTES = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => {
  violations.push(`${event.violatedDirective}: ${event.blockedURI}`);
});
window.notices = [];
addEventListener("DOMContentLoaded", () => {
  const notice = document.getElementById("notice");
  const observer = new MutationObserver(() => notices.push(notice.textContent));
  if (notice) observer.observe(notice, { childList: true, characterData: true, subtree: true });
});
"""
# What the console says of requests that fail, as they do while a server is down.
_OF_NETWORK = "Failed to load resource"

expect.set_options(timeout=WITHIN_MS)


class Tab:
    """A tab of a browser.

    Attributes:
        page: of Playwright.
        problems: errors of scripts, and what the console shows as one.
        loads: the documents that were loaded.
        urls: of all requests.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        self.loads = 0
        self.urls: list[str] = []
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("response", self._note_response)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_OF_NETWORK):
            self.problems.append(message.text)

    def _note_response(self, response: Response) -> None:
        self.urls.append(response.url)
        self.loads += response.request.resource_type == "document"

    async def go(self, path: str) -> None:
        """Open another path of the server."""
        await self.page.goto(urljoin(self.page.url, path))

    def find(self, selector: str, **options: Any) -> Locator:
        """Return what a selector finds."""
        return self.page.locator(selector, **options)

    def row(self, name: str) -> Locator:
        """Return the row of a document in the list."""
        return self.find("document-list li", has=self.page.locator(f'.name:text-is("{name}")'))

    def button(self, name: str, *, within: str = "body") -> Locator:
        """Return the button with a label."""
        return self.find(within).get_by_role("button", name=name, exact=True)

    async def names(self) -> list[str]:
        """Return the names of the listed documents, from the top."""
        return await self.find("document-list .name").all_text_contents()

    async def shows(self, selector: str, text: str) -> None:
        """Wait until an element contains a text."""
        await expect(self.find(selector)).to_contain_text(text)

    async def shows_not(self, selector: str, text: str) -> None:
        """Wait until the text of an element is another one."""
        await expect(self.find(selector)).not_to_have_text(text)

    async def noticed(self, text: str) -> None:
        """Wait until the page has shown a notice, which may have passed."""
        notices: list[str] = []

        async def read() -> None:
            notices[:] = await self.page.evaluate("window.notices")

        await until(lambda: text in notices, meanwhile=read)

    async def set_visibility(self, state: str) -> None:
        """Make the page believe that it is visible or hidden: a headless tab always is visible."""
        await self.page.evaluate(
            """(state) => {
              const property = { value: state, configurable: true };
              Object.defineProperty(document, "visibilityState", property);
              document.dispatchEvent(new Event("visibilitychange"));
            }""",
            state,
        )

    async def count_calls(self) -> Callable[[], Awaitable[Counter[str]]]:
        """Count the calls of functions from now on, also of the next document.

        Returns a function that returns them by name, such as `paint.js painter`.
        """
        profiler = await self.page.context.new_cdp_session(self.page)
        await profiler.send("Profiler.enable")
        await profiler.send("Profiler.startPreciseCoverage", {"callCount": True})

        async def take() -> Counter[str]:
            coverage = await profiler.send("Profiler.takePreciseCoverage")
            calls: Counter[str] = Counter()
            for script in coverage["result"]:
                file = script["url"].rpartition("/")[2]
                for function in script["functions"]:
                    calls[f"{file} {function['functionName']}"] += function["ranges"][0]["count"]
            return calls

        return take

    async def check(self) -> None:
        """Check that nothing went wrong, and that the policy has blocked nothing."""
        assert not self.problems
        assert await self.page.evaluate("window.violations") == []

    async def check_accessibility(self) -> None:
        """Check that axe-core reports no violation."""
        results = await Axe().run(self.page)
        violations = [
            f"{one['id']}: {node['html']}: {node['failureSummary']}"
            for one in results.response["violations"]
            for node in one["nodes"]
        ]
        assert not violations, "\n".join(violations)


@contextlib.asynccontextmanager
async def opened(browser: Browser, url: str, **options: Any) -> AsyncIterator[Tab]:
    """Open a page in a profile of its own; check at the end that nothing went wrong."""
    context = await browser.new_context(**options)
    try:
        page = await context.new_page()
        page.set_default_timeout(WITHIN_MS)
        await page.add_init_script(_TAKE_NOTES)
        tab = Tab(page)
        await page.goto(url)
        yield tab
        await tab.check()
    finally:
        await context.close()
