"""While a disk hangs, both paths return errors that their clients know."""

from __future__ import annotations

import asyncio

import httpx

from stagecast.store.sqlite import SqliteStore
from tests.faults import hanging_reads
from tests.rest.apps import open_app
from tests.rest.conftest import Ingestion


async def test_polls_end_in_time(store: SqliteStore, ingestion: Ingestion) -> None:
    await ingestion.submit("a")
    transport = httpx.ASGITransport(open_app(store, store_s=0.05))
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://stagecast") as http,
        hanging_reads(store),
        asyncio.timeout(60),
    ):
        dify = await http.get(ingestion.path, headers={"Authorization": "Bearer key"})
        cognee = await http.get(f"/api/v1/datasets/status?dataset={ingestion.dataset_id}")
    assert (dify.status_code, dify.headers["Retry-After"]) == (503, "1")
    assert cognee.status_code == 500
    assert cognee.json() == {"error": "Unable to retrieve dataset statuses."}
