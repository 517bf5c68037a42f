"""`EventSource` in a real browser: the validator passes over what it receives through kills."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from google.protobuf import json_format
from playwright.async_api import Browser

from stagecast.client import Stubs
from stagecast.v1 import status_service_pb2 as s
from tests.conditions import until
from tests.process import ServerProcess, free_address
from tests.validator import WatchRecord
from tests.watches.pipeline import Pipeline, check_all
from tests.web.tab import Tab, opened

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_KILLS = 20
_DOCUMENTS = 15  # that are worked on during each kill

_LISTEN = """(url) => {
  window.received = [];
  window.connections = 0;
  const source = new EventSource(url);
  source.onopen = () => { connections += 1; };
  source.onmessage = (event) => received.push(event.data);
  source.addEventListener("error", () => {
    received.push(source.readyState === EventSource.CLOSED ? "closed" : "lost");
  });
  source.addEventListener("end", () => received.push("end"));
}"""


async def test_event_source_of_a_browser_misses_nothing_through_twenty_kills(
    browser: Browser, tmp_path: Path, dataset_id: str
) -> None:
    rng = random.Random(4)
    db, grpc, http = tmp_path / "stagecast.db", free_address(), free_address()
    server = await ServerProcess.start(db, grpc=grpc, http=http)
    try:
        async with (
            Stubs(grpc) as client,
            opened(browser, f"http://{http}/") as tab,
            asyncio.timeout(900),
        ):
            pipeline = Pipeline(client, dataset_id)
            await pipeline.create(_KILLS * _DOCUMENTS, more_documents_follow=True)
            path = f"/v1/datasets/{pipeline.dataset_id}/batches/{pipeline.batch_id}/watch"
            await tab.page.evaluate(_LISTEN, path)
            for kill in range(_KILLS):
                await tab.page.wait_for_function("(kill) => connections > kill", arg=kill)
                acknowledged = len(pipeline.acknowledged)
                share = pipeline.document_ids[kill::_KILLS]
                async with asyncio.TaskGroup() as group:
                    group.create_task(pipeline.work(share, random.Random(rng.random())))
                    await pipeline.until_acknowledged(acknowledged + rng.randrange(3 * _DOCUMENTS))
                    await server.kill()
                    server = await ServerProcess.start(db, grpc=grpc, http=http)
            await pipeline.seal()
            record = await _recorded(tab)
            assert record.hangups >= _KILLS, "each kill has broken the stream"
            check_all([record], pipeline, await pipeline.documents())
    finally:
        await server.kill()


async def _recorded(tab: Tab) -> WatchRecord:
    """Return the record of what was received; after the end, the browser stayed away for good."""
    received: list[str] = []

    async def read() -> None:
        received[:] = await tab.page.evaluate("window.received")

    await until(lambda: received[-1:] == ["closed"], meanwhile=read)
    assert received.count("end") == 1
    record = WatchRecord()
    for data in received[: received.index("end")]:
        if data == "lost":
            record.hang_up()
        else:
            record.receive(json_format.Parse(data, s.WatchBatchResponse()))
    return record
