"""Host names, while no keys are required: a name can be pointed at this machine (DNS rebinding)."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from stagecast.app import App
from stagecast.config import Config
from tests.access import make_key
from tests.web.browser import launched

HTML = {"Accept": "text/html"}
LIST = "/stagecast.v1.StatusService/ListBatches"
POLL = "/api/v1/datasets/status"
WATCH = "/v1/datasets/watch"

STRANGE = (
    "rebound.example.com:8000",
    "127.0.0.1.example.com",
    "localhost.example.com",
    "rebound.example.com.",
    "REBOUND.example.com",
    "[::1",
    "127.0.0.1:8000@rebound.example.com",
)
KNOWN = (
    "127.0.0.1:8000",
    "[::1]:8000",
    "192.168.1.7",
    "localhost",
    "LOCALHOST.:8000",
    "myhost:8080",
    "stagecast",
    "status.localhost:8000",
    "printer.local",
    "stagecast.default.svc.cluster.local:8000",
    "host.docker.internal:8000",
    "",
)


async def _statuses(address: str, host: str, key: str = "") -> list[int]:
    """Return the statuses of the page, a call, a poll and a stream under a host name."""
    headers = {"Host": host} | ({"Authorization": f"Bearer {key}"} if key else {})
    async with httpx.AsyncClient(base_url=f"http://{address}") as http:
        answers = [
            await http.get("/", headers=headers | HTML),
            await http.post(LIST, headers=headers, json={}),
            await http.get(POLL, headers=headers),
        ]
        async with http.stream("GET", WATCH, headers=headers) as stream:
            return [*(answer.status_code for answer in answers), stream.status_code]


@pytest.mark.parametrize("host", STRANGE)
async def test_nothing_is_read_under_a_name_that_may_be_somebody_elses(
    config: Config, host: str
) -> None:
    async with App(config) as server, httpx.AsyncClient() as http:
        assert await _statuses(server.http_address, host) == [403] * 4
        answer = await http.get(f"http://{server.http_address}{POLL}", headers={"Host": host})
        assert answer.json()["code"] == "permission_denied"
        assert "--cors-origin" in answer.json()["message"]


@pytest.mark.parametrize("host", [*KNOWN, socket.gethostname()])
async def test_addresses_and_local_names_are_served(config: Config, host: str) -> None:
    async with App(config) as server:
        assert await _statuses(server.http_address, host) == [200] * 4


@pytest.mark.browser
@pytest.mark.slow
async def test_browser_is_refused_under_a_name_that_was_pointed_at_this_machine(
    config: Config,
) -> None:
    name = "rebound.example.com"
    async with (
        App(config) as server,
        launched(f"--host-resolver-rules=MAP {name} 127.0.0.1") as browser,
    ):
        page = await browser.new_page()
        port = server.http_address.rpartition(":")[2]
        answer = await page.goto(f"http://{name}:{port}/")
        assert answer is not None
        assert answer.status == 403
        assert f"unknown host '{name}:{port}'" in await page.inner_text("body")


async def test_every_name_is_served_once_a_key_is_required(config: Config) -> None:
    async with App(config) as server:
        key = await make_key(config.db)
        assert await _statuses(server.http_address, STRANGE[0], key) == [200] * 4
        assert await _statuses(server.http_address, STRANGE[0]) == [401] * 4


@pytest.mark.parametrize("host", ["status.example.com", "status.example.com:8443"])
async def test_name_of_a_configured_origin_is_served(config: Config, host: str) -> None:
    async with App(replace(config, cors_origins=("https://status.example.com",))) as server:
        assert await _statuses(server.http_address, host) == [200] * 4
        assert await _statuses(server.http_address, STRANGE[0]) == [403] * 4


@pytest.mark.parametrize("http", ["127.0.0.1:0", "0.0.0.0:0"])
async def test_insecure_server_is_served_under_every_name(config: Config, http: str) -> None:
    async with App(replace(config, http=http, insecure=True)) as server:
        address = server.http_address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - it listens there
        assert await _statuses(address, STRANGE[0]) == [200] * 4


async def test_proxy_that_uses_a_socket_may_pass_every_name_on(
    config: Config, tmp_path: Path
) -> None:
    path = tmp_path / "http.sock"
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with (
        App(replace(config, http=f"unix:{path}")),
        httpx.AsyncClient(transport=transport) as http,
    ):
        assert (await http.get(f"http://status.example.com{POLL}")).status_code == 200
