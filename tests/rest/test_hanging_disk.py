"""While a disk hangs, both paths return errors that their clients know, if these still wait."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from stagecast.config import Config
from stagecast.rest import HttpServer
from stagecast.store.sqlite import SqliteStore
from tests.conditions import until
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


@pytest.mark.parametrize("path", ["dify", "cognee"])
@pytest.mark.parametrize("proxied", [False, True])
async def test_poll_of_a_client_that_left_waits_for_the_store_no_longer(
    store: SqliteStore,
    ingestion: Ingestion,
    caplog: pytest.LogCaptureFixture,
    path: str,
    proxied: bool,
) -> None:
    await ingestion.submit("a")
    paths = {"dify": ingestion.path, "cognee": "/api/v1/datasets/status"}
    app = open_app(store, store_s=600.0, root_path="/prefix" if proxied else "")
    server = HttpServer(app, Config(http="127.0.0.1:0", linger_s=0.0))
    await server.start()
    request = f"GET {paths[path]} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key\r\n\r\n"
    async with hanging_reads(store):
        peers = [await asyncio.open_connection(*server.address.split(":")) for _ in range(3)]
        for _, writer in peers:
            writer.write(request.encode())
        # Equal requests for Dify's path are read one by one, too.
        await until(lambda: len(store._reads) == len(peers))
        for _, writer in peers[1:]:
            writer.close()
        await until(lambda: len(store._reads) == 1)
    reader, writer = peers[0]
    async with asyncio.timeout(60):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await server.stop(1)
    assert not caplog.records
