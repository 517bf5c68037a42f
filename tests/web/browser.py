"""The browser of the tests: Chromium or Chrome as the system has it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from playwright.async_api import Browser, async_playwright

_NAMES = ("chromium", "google-chrome")


def find_browser() -> str:
    """Return the path of the browser; Playwright's own is not in any registry of packages.

    Raises:
        FileNotFoundError: there is none.
    """
    path = next(_installed(), None)
    if path is None:
        raise FileNotFoundError(
            "the page needs Chromium: apt-get install -y chromium; on Ubuntu, where that is a snap "
            "and cannot use a test's files, Google Chrome"
        )
    return path


def _installed() -> Iterator[str]:
    for name in _NAMES:
        path = shutil.which(name)
        if path and Path(path).resolve().name != "snap":
            yield path


@contextlib.asynccontextmanager
async def launched(*options: str) -> AsyncIterator[Browser]:
    """Run the browser during the block."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_browser(), args=options)
        yield browser
        await browser.close()
