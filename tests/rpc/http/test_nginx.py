"""Streams through nginx with its defaults."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from stagecast.app import App
from stagecast.v1 import resources_pb2 as r
from tests.conditions import until
from tests.process import free_address
from tests.rpc.http.requests import STATUS, Http
from tests.rpc.http.test_events import path_of
from tests.watches.pipeline import Pipeline

pytestmark = [pytest.mark.nginx, pytest.mark.slow]

_CONFIGURATION = """
daemon off;
master_process off;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  server {{
    listen {address};
    location / {{ proxy_pass http://{target}; }}
  }}
}}
"""


def nginx() -> str:
    """Return the path of nginx, which may be out of the search path of users."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    assert program, "nginx is missing: apt-get install nginx-light"
    return program


@contextlib.asynccontextmanager
async def proxied(target: str, home: Path) -> AsyncIterator[str]:
    """Run nginx before a server; yield its address."""
    address = free_address()
    settings = home / "nginx.conf"
    settings.write_text(_CONFIGURATION.format(home=home, address=address, target=target))
    process = await asyncio.create_subprocess_exec(nginx(), "-p", str(home), "-c", str(settings))
    try:
        await until(lambda: (home / "nginx.pid").exists() or process.returncode is not None)
        assert process.returncode is None, (home / "error.log").read_text()
        yield address
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def through_nginx(server: App, tmp_path: Path) -> AsyncIterator[Http]:
    async with (
        proxied(server.http_address, tmp_path) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client,
    ):
        yield Http(client)


async def test_nginx_passes_each_event_on_at_once(through_nginx: Http, pipeline: Pipeline) -> None:
    await pipeline.create(1)
    async with through_nginx.events(f"{path_of(pipeline)}?heartbeat_interval=1s") as stream:
        assert (await stream.next()).json["snapshot"]["complete"]
        assert await stream.comment() == "heartbeat"
        await pipeline.stage(r.STAGE_PARSING)
        assert len((await stream.next()).json["transitions"]) == 1
        await pipeline.stage(r.STAGE_COMPLETED)
        assert (await stream.until("end"))[-1].json["batch"]["state"] == "BATCH_STATE_SUCCEEDED"
        assert await stream.is_over()


async def test_client_that_disconnects_from_nginx_frees_its_watch(
    server: App, through_nginx: Http, pipeline: Pipeline
) -> None:
    await pipeline.create(1)
    async with through_nginx.events(path_of(pipeline)) as stream:
        await stream.next()
    await until(lambda: server.open_watches == 0)


async def test_nginx_passes_unary_calls_on(through_nginx: Http, pipeline: Pipeline) -> None:
    await pipeline.create(1)
    names = {"datasetId": pipeline.dataset_id, "batchId": pipeline.batch_id}
    assert (await through_nginx.call(f"{STATUS}/GetBatch", **names))["batch"]["sealed"]
