"""Takes the pictures of the page in README and guide: `python -m tests.screenshots`.

Two batches, of six and of ten thousand documents, with failures and stalled documents, run by a
clock that this program moves: so minutes of work are shown after seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from playwright.async_api import Browser

import stagecast
from stagecast.app import App
from stagecast.config import Config
from tests.clock import Clock
from tests.process import ROOT
from tests.web.browser import launched
from tests.web.tab import Tab, opened

FOLDER = ROOT / ".github"
NAMES = ("page", "page-document", "page-dark", "page-phone", "page-phone-document")

_DATASET = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
_DESKTOP = {"viewport": {"width": 1180, "height": 880}}
_PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
_TEXT = {"locale": "en-GB", "timezone_id": "UTC", "reduced_motion": "reduce"}

_STAGES = tuple(
    stagecast.Stage[name] for name in ("PARSING", "CLEANING", "SPLITTING", "INDEXING", "COMPLETED")
)

_SCAN_S = 0.05  # of real time, while which at most _STEP_S pass on the other clock
_STEP_S = 1.0

# Whether the groups, which follow once a second, have caught up with the counts.
_IN_STEP = """() => {
  const sum = (selector) =>
    [...document.querySelectorAll(selector)]
      .reduce((all, { textContent }) => all + parseInt(textContent), 0);
  const stalled = document.querySelector("#filter [value=stalled]").textContent.match(/\\d+/)[0];
  return sum("#attention strong") === sum(".legend .failed") + Number(stalled);
}"""

_ERROR = """page 3: the text layer is encrypted
Traceback (most recent call last):
  File "parse.py", line 41, in read_page
    text = layer.decode()
UnicodeDecodeError: 'utf-8' codec can't decode byte 0x93 in position 12"""

_FAILS, _STALLS = "contracts/2026-lease.pdf", "contracts/2025-lease.pdf"
_SIX = (_FAILS, _STALLS, "letters/1912.md", "manual.pdf", "notes/index.html", "tapes/reel-1.wav")


class Ingestion:
    """A batch and its pipeline, which moves the clock."""

    def __init__(self, client: stagecast.AsyncClient, clock: Clock, batch_id: str) -> None:
        self._client = client
        self._clock = clock
        self._name = (_DATASET, batch_id)
        self.path = f"/datasets/{_DATASET}/batches/{batch_id}"

    async def create(self, documents: Sequence[str], *, stall_after: float) -> None:
        await self._client.create_batch(
            _DATASET,
            documents,
            batch_id=self._name[1],
            dataset_name="Handbook",
            stall_after=stall_after,
        )

    async def start(self, worker: str, *documents: str) -> None:
        for document in documents:
            self._clock.pass_time(0.01)
            await self._client.start_attempt(*self._name, document, worker)

    async def enter(self, stage: stagecast.Stage, *documents: str, seconds: float = 0) -> None:
        """Let documents enter a stage, after some time."""
        await self._report(documents, seconds, stage=stage)

    async def count(self, document: str, completed: int, total: int | None, **more: Any) -> None:
        progress = stagecast.Progress(completed_segments=completed, total_segments=total, **more)
        await self._report([document], 0, progress=progress)

    async def fail(self, reason: str, message: str, *documents: str, seconds: float = 0) -> None:
        error = stagecast.DocumentError(reason=reason, message=message)
        await self._report(documents, seconds, error=error)

    async def _report(self, documents: Sequence[str], seconds: float, **fields: Any) -> None:
        await self._pass(seconds)
        reports = [stagecast.DocumentReport(document_id=one, **fields) for one in documents]
        if reports:
            await self._client.report(*self._name, reports)

    async def _pass(self, seconds: float) -> None:
        """Let time pass as slowly as the stall detector expects: a jump starts its timers again."""
        while seconds > 0:
            self._clock.pass_time(min(seconds, _STEP_S))
            seconds -= _STEP_S
            await asyncio.sleep(_SCAN_S)


async def ingest_six(batch: Ingestion) -> None:
    """Bring six documents to where one has failed and one is stalled."""
    stage = stagecast.Stage
    await batch.create(_SIX, stall_after=60)
    fails, stalls, letter, manual, notes, tape = _SIX
    await batch.start("worker-2", stalls, notes)
    await batch.start("worker-1", letter)
    await batch.enter(stage.PARSING, stalls, notes, letter, seconds=0.4)
    await batch.enter(stage.CLEANING, letter, notes, seconds=1.2)
    await batch.enter(stage.SPLITTING, letter, stalls, seconds=0.3)
    await batch.enter(stage.INDEXING, letter, notes, seconds=0.7)
    await batch.count(letter, 18, 18)
    await batch.enter(stage.COMPLETED, letter, seconds=6.1)
    await batch.start("worker-1", fails)
    await batch.enter(stage.PARSING, fails, seconds=1.3)
    await batch.count(notes, 41, 41)
    await batch.enter(stage.COMPLETED, notes, seconds=19)
    await batch.fail("DECODE_ERROR", _ERROR, fails, seconds=4.6)
    await batch.start("worker-1", manual)
    await batch.start("worker-3", tape)
    await batch.enter(stage.PARSING, manual, tape, seconds=0.8)
    await batch.enter(stage.INDEXING, manual, seconds=41)
    await batch.count(manual, 96, 240)
    step = stagecast.Step(name="minutes transcribed", completed=7, total=31)
    await batch.count(tape, 0, None, step=step)


class Crawl:
    """Ten thousand documents, of which some are worked on at a time."""

    def __init__(self, batch: Ingestion) -> None:
        self._batch = batch
        self._rng = random.Random(3)
        self._documents = [f"crawl/2026-11/page-{number:05}.html" for number in range(10_000)]
        self._next = 0
        self._shares: list[list[str]] = []  # those that were begun together, the newest first

    async def create(self) -> None:
        await self._batch.create(self._documents, stall_after=25)

    async def go_on(self) -> None:
        """Begin with some documents, and bring those before them a stage further."""
        await self._begin()
        for share, stage in zip(self._shares, _STAGES, strict=False):
            await self._batch.enter(stage, *share, seconds=self._rng.uniform(0.1, 0.6))
            if stage is stagecast.Stage.PARSING:
                await self._lose_some(share)
            elif stage is stagecast.Stage.INDEXING:
                for document in share:
                    total = self._rng.randrange(8, 30)
                    await self._batch.count(document, total, total)
        del self._shares[5:]

    async def _begin(self) -> None:
        share = self._documents[self._next : self._next + self._rng.randrange(40, 70)]
        self._next += len(share)
        for number, document in enumerate(share):
            await self._batch.start(f"worker-{number % 12 + 1}", document)
        self._shares.insert(0, share)

    async def _lose_some(self, share: list[str]) -> None:
        """Let some fail and a few be forgotten."""
        failing = [share.pop(self._rng.randrange(20)) for _ in range(self._rng.random() < 0.3)]
        reason = self._rng.choice(("DECODE_ERROR", "TOO_LARGE", "DECODE_ERROR"))
        await self._batch.fail(reason, "cannot read the page", *failing, seconds=0.2)
        if self._rng.random() < 0.1:
            share.pop(self._rng.randrange(20))


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[App, stagecast.AsyncClient, Clock]]:
    """Run a server with a clock that stands still."""
    clock = Clock(now_us=int(time.time()) * 1_000_000)
    config = Config(
        db=folder / "stagecast.db", grpc="127.0.0.1:0", http="127.0.0.1:0", scan_every_s=_SCAN_S
    )
    async with (
        App(config, clock=clock, monotonic=clock.monotonic) as app,
        stagecast.AsyncClient(app.grpc_address) as client,
    ):
        yield app, client, clock


async def take(folder: Path) -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        async with served(Path(scratch)) as (app, client, clock), launched() as browser:
            url = f"http://{app.http_address}"
            six = Ingestion(client, clock, "2026-11-29")
            await ingest_six(six)
            await _take_six(browser, url + six.path, folder)
            crawl = Ingestion(client, clock, "crawl-2026-11")
            await _take_crawl(browser, url + crawl.path, Crawl(crawl), folder)


async def _take_six(browser: Browser, url: str, folder: Path) -> None:
    document = f"{url}#document={_FAILS.replace('/', '%2F')}"
    async with opened(browser, document, **_DESKTOP, **_TEXT) as tab:
        await tab.shows("#attention", "1 document stalled")
        await tab.shows(".timeline", "failed")
        await _shoot(tab, folder, "page-document")
    async with opened(browser, url, **_PHONE, **_TEXT) as tab:
        await tab.shows("#attention", "1 document stalled")
        await _shoot(tab, folder, "page-phone")
        await tab.row(_FAILS).locator("a").click()
        await tab.shows(".timeline", "failed")
        await _shoot(tab, folder, "page-phone-document")


async def _take_crawl(browser: Browser, url: str, crawl: Crawl, folder: Path) -> None:
    await crawl.create()
    for _ in range(15):
        await crawl.go_on()
    async with opened(browser, url, **_DESKTOP, **_TEXT) as tab:
        await tab.shows("#connection", "live")
        for _ in range(15):  # from which it estimates the time left
            before = await tab.find("#line").text_content() or ""
            await crawl.go_on()
            await tab.shows_not("#line", before)
        await tab.shows("#attention", "stalled at")
        await tab.page.wait_for_function(_IN_STEP)
        await _shoot(tab, folder, "page")
        await tab.page.emulate_media(color_scheme="dark")
        top = (
            "scrollBy(0, document.getElementById('stages-title').getBoundingClientRect().top - 24)"
        )
        await tab.page.evaluate(top)
        await tab.page.wait_for_function(_IN_STEP)
        await _shoot(tab, folder, "page-dark")


async def _shoot(tab: Tab, folder: Path, name: str) -> None:
    await tab.page.screenshot(path=folder / f"{name}.png")


if __name__ == "__main__":
    asyncio.run(take(FOLDER))
