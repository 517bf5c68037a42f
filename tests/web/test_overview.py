"""The overview, which fills itself."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from stagecast.app import App
from tests.web.conftest import Open
from tests.web.pipeline import Pipeline

pytestmark = [pytest.mark.browser, pytest.mark.slow]


async def test_empty_overview_says_what_to_run_and_fills_itself(
    visit: Open, pipeline: Pipeline, server: App
) -> None:
    async with visit("/") as tab:
        await expect(tab.find("#empty code")).to_have_text(
            f"stagecast demo --grpc {server.grpc_address}"
        )
        await tab.check_accessibility()
        await pipeline.create("a.md", "b.md")
        await tab.shows("#open", "batch-1")
        await expect(tab.find("#empty")).to_be_hidden()
        await pipeline.succeed("a.md")
        await tab.shows("#open .summary", "1 of 2 documents · 50%")
        await pipeline.succeed("b.md")
        await tab.shows("#recent", "batch-1")
        await expect(tab.find("#open")).to_be_hidden()
        await tab.check_accessibility()
        await tab.find("#recent a").click()
        await tab.shows("#batch-name", "batch-1")
        assert tab.loads == 2
