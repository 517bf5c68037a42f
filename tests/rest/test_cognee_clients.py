"""Cognee's own clients work as with their own server.

The requests were recorded from its programs, byte for byte: its web client in a browser, its
command line, its MCP server and its Python client.
Each test names the file of github.com/topoteretes/cognee, at commit a8f9760, that makes a request,
and checks what that file relies on in the response.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.v1 import resources_pb2 as r
from tests.rpc.calls import Calls, failure, stage

STATUS = "/api/v1/datasets/status"
ONE = "0a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11"
TWO = "1b2d1e2f-9b4c-4a1f-8e4d-4a2a7a1d3c22"
UNKNOWN = "2c3e2f3a-0c5d-4b2a-9f5e-5b3b8b2e4d33"

INITIATED = "DATASET_PROCESSING_INITIATED"
STARTED = "DATASET_PROCESSING_STARTED"
COMPLETED = "DATASET_PROCESSING_COMPLETED"
ERRORED = "DATASET_PROCESSING_ERRORED"

# A page of localhost:3000 in Chrome, with a logged-in user. The browser passes the response to the
# page only if CORS headers allow it, or if a proxy gives both the same origin.
WEB_CLIENT = """\
Host: localhost:8000
Connection: keep-alive
sec-ch-ua-platform: "Linux"
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
HeadlessChrome/147.0.7727.0 Safari/537.36
sec-ch-ua: "HeadlessChrome";v="147", "Not.A/Brand";v="8", "Chromium";v="147"
sec-ch-ua-mobile: ?0
Accept: */*
Origin: http://localhost:3000
Sec-Fetch-Site: same-site
Sec-Fetch-Mode: cors
Sec-Fetch-Dest: empty
Referer: http://localhost:3000/
Accept-Encoding: gzip, deflate, br, zstd
Cookie: auth_token=eyJ0
"""
WEB_CLIENT_WITH_KEY = WEB_CLIENT.replace("sec-ch-ua-mobile", "X-Api-Key: k1\nsec-ch-ua-mobile")

COMMAND_LINE = """\
Host: localhost:8000
Accept: */*
Accept-Encoding: gzip, deflate
Connection: keep-alive
User-Agent: python-httpx/0.28.1
"""

# It names a content type although it sends no body.
MCP_SERVER = COMMAND_LINE + "Content-Type: application/json\n"

PYTHON_CLIENT = """\
Host: localhost:8000
X-Api-Key: k1
Accept: */*
Accept-Encoding: gzip, deflate
User-Agent: Python/3.11 aiohttp/3.14.5
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response; header names are in lower case."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def statuses(self) -> dict[str, str]:
        """The statuses of a successful response."""
        assert (self.code, self.headers["content-type"]) == (200, "application/json")
        return dict(json.loads(self.body))


class Connection:
    """A persistent connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, target: str, headers: str) -> Answer:
        """Send exactly these bytes."""
        request = f"GET {target} HTTP/1.1\n{headers}\n"
        self._writer.write(request.replace("\n", "\r\n").encode())
        async with asyncio.timeout(600):
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            fields = (line.split(": ", 1) for line in lines if line)
            actual = {name.lower(): value for name, value in fields}
            body = await self._reader.readexactly(int(actual.get("content-length", 0)))
        return Answer(code=int(first.split()[1]), headers=actual, body=body)


@pytest.fixture
async def connection(server: App) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(*server.http_address.split(":"))
    yield Connection(reader, writer)
    writer.close()
    await writer.wait_closed()


Begin = Callable[..., Awaitable[Calls]]


@pytest.fixture
def begin(client: Stubs) -> Begin:
    """Creates two documents in a dataset, `a` and `b`, and makes the first reports on them."""

    async def begin(dataset_id: str, *reports: Any) -> Calls:
        calls = Calls(client, dataset_id)
        await calls.create("a", "b")
        if reports:
            await calls.report(*reports)
        return calls

    return begin


async def test_web_client_follows_one_dataset_from_its_first_state_to_the_last(
    connection: Connection, begin: Begin
) -> None:
    """cognee-frontend/src/modules/datasets/pollDatasetStatus.ts, through localFetch.ts.

    After an upload it polls every five seconds, and takes a missing key for *not yet*.
    """

    async def poll() -> str | None:
        answer = await connection.get(f"{STATUS}?dataset={ONE}", WEB_CLIENT)
        return answer.statuses.get(ONE)

    assert await poll() is None
    calls = await begin(ONE)
    assert await poll() == INITIATED
    await calls.report(stage("a", r.STAGE_PARSING))
    assert await poll() == STARTED
    await calls.report(stage("a", r.STAGE_COMPLETED), stage("b", r.STAGE_COMPLETED))
    assert await poll() == COMPLETED


@pytest.mark.parametrize(
    ("last", "status"),
    [(stage("b", r.STAGE_COMPLETED), COMPLETED), (failure("b"), ERRORED)],
    ids=["completed", "errored"],
)
async def test_web_client_ends_when_it_reads_a_terminal_state_twice(
    connection: Connection, begin: Begin, last: Any, status: str
) -> None:
    """cognee-frontend/src/modules/datasets/pollDatasetStatus.ts.

    It accepts a terminal state on its first poll only if the next poll confirms it.
    """
    await begin(ONE, stage("a", r.STAGE_COMPLETED), last)
    for _ in range(2):
        answer = await connection.get(f"{STATUS}?dataset={ONE}", WEB_CLIENT)
        assert answer.statuses == {ONE: status}


async def test_web_client_keeps_polling_while_its_dataset_has_no_key(
    connection: Connection, begin: Begin
) -> None:
    """cognee-frontend/src/modules/datasets/pollDatasetStatus.ts.

    It would log an error at every poll, until it gives up after ten minutes.
    """
    await begin(ONE, stage("a", r.STAGE_PARSING))
    answer = await connection.get(f"{STATUS}?dataset={UNKNOWN}", WEB_CLIENT)
    assert answer.statuses == {}


async def test_web_client_reads_all_datasets_without_a_parameter(
    connection: Connection, begin: Begin
) -> None:
    """cognee-frontend/src/app/(app)/datasets/DatasetsPage.tsx, when the page is opened."""
    await begin(ONE)
    await begin(TWO, stage("a", r.STAGE_COMPLETED), failure("b"))
    answer = await connection.get(STATUS, WEB_CLIENT)
    assert answer.statuses == {ONE: INITIATED, TWO: ERRORED}


async def test_web_client_sees_changes_of_all_datasets_on_one_connection(
    connection: Connection, begin: Begin
) -> None:
    """cognee-frontend/src/modules/datasets/useDatasetStatuses.ts, every five seconds.

    From the second poll on, the browser sends the ETag, and on a 304 uses its cached body.
    """
    calls = await begin(ONE)
    first = await connection.get(STATUS, WEB_CLIENT)
    assert first.statuses == {ONE: INITIATED}
    condition = f"If-None-Match: {first.headers['etag']}\n"
    second = await connection.get(STATUS, WEB_CLIENT + condition)
    assert (second.code, second.body) == (304, b"")
    await calls.report(stage("a", r.STAGE_PARSING))
    third = await connection.get(STATUS, WEB_CLIENT + condition)
    assert third.statuses == {ONE: STARTED}


async def test_web_client_may_send_an_api_key(connection: Connection, begin: Begin) -> None:
    """cognee-frontend/src/modules/instances/localFetch.ts, if a key is configured."""
    await begin(ONE)
    answer = await connection.get(STATUS, WEB_CLIENT_WITH_KEY)
    assert answer.statuses == {ONE: INITIATED}


async def test_command_line_reads_several_datasets(connection: Connection, begin: Begin) -> None:
    """cognee/cli/api_client.py, for `cognee-cli --api-url … datasets status ID ID`."""
    await begin(ONE)
    await begin(TWO, stage("a", r.STAGE_COMPLETED), stage("b", r.STAGE_COMPLETED))
    answer = await connection.get(f"{STATUS}?dataset={TWO}&dataset={ONE}", COMMAND_LINE)
    assert answer.statuses == {ONE: INITIATED, TWO: COMPLETED}


@pytest.mark.parametrize(
    "names", [["cognify_pipeline"], ["cognify_pipeline", "add_pipeline"]], ids=["one", "two"]
)
async def test_command_line_may_name_pipelines(
    connection: Connection, begin: Begin, names: list[str]
) -> None:
    """cognee/cli/api_client.py, for `… datasets status ID --pipelines NAME …`.

    Its own server returns a state for each pipeline; the client also accepts one for all.
    """
    await begin(ONE, stage("a", r.STAGE_PARSING))
    await begin(TWO)
    pipelines = "".join(f"&pipeline={name}" for name in names)
    answer = await connection.get(f"{STATUS}?dataset={ONE}{pipelines}", COMMAND_LINE)
    assert answer.statuses == {ONE: STARTED}


@pytest.mark.parametrize(
    "header", ["X-Api-Key: k1", "Authorization: Bearer t1", f"X-User-Id: {UNKNOWN}"]
)
async def test_command_line_may_send_credentials(
    connection: Connection, begin: Begin, header: str
) -> None:
    """cognee/cli/api_dispatch.py, for `--api-key`, `--api-token` and `--user-id`."""
    await begin(ONE)
    answer = await connection.get(f"{STATUS}?dataset={ONE}", COMMAND_LINE + header + "\n")
    assert answer.statuses == {ONE: INITIATED}


async def test_command_line_gets_an_empty_object_for_an_unknown_dataset(
    connection: Connection, begin: Begin
) -> None:
    """cognee/cli/api_dispatch.py: `No status information available.`, for an empty object."""
    await begin(ONE)
    answer = await connection.get(f"{STATUS}?dataset={UNKNOWN}", COMMAND_LINE)
    assert answer.statuses == {}


async def test_command_line_prints_why_an_id_is_invalid(connection: Connection) -> None:
    """cognee/cli/api_client.py: `API error 422: …`, with the JSON of the answer."""
    answer = await connection.get(f"{STATUS}?dataset=manuals", COMMAND_LINE)
    assert (answer.code, answer.headers["content-type"]) == (422, "application/json")
    [fault] = json.loads(answer.body)["detail"]
    assert (fault["loc"], fault["input"]) == (["query", "dataset", 0], "manuals")


@pytest.mark.parametrize(
    "headers",
    ["", "Authorization: Bearer t1\n", f"X-Api-Key: k1\nX-Tenant-Id: {UNKNOWN}\n"],
    ids=["nobody", "token", "tenant"],
)
async def test_mcp_server_reads_one_dataset(
    connection: Connection, begin: Begin, headers: str
) -> None:
    """cognee-mcp/src/cognee_client.py, for its tool `cognify_status`."""
    await begin(ONE, stage("a", r.STAGE_COMPLETED), failure("b"))
    answer = await connection.get(f"{STATUS}?dataset={ONE}", MCP_SERVER + headers)
    assert answer.statuses == {ONE: ERRORED}


async def test_python_client_waits_for_several_datasets_of_one_pipeline(
    connection: Connection, begin: Begin
) -> None:
    """cognee/tests/performance/statistics_percentile/bench_cognee.py, after `cognee.serve()`.

    The session with its headers is that of cognee/api/v1/serve/cloud_client.py. It does not
    poll completed datasets again.
    """
    target = f"{STATUS}?dataset={ONE}&dataset={TWO}&pipeline=cognify_pipeline"
    assert (await connection.get(target, PYTHON_CLIENT)).statuses == {}
    await begin(ONE, stage("a", r.STAGE_COMPLETED), stage("b", r.STAGE_COMPLETED))
    second = await begin(TWO, stage("a", r.STAGE_PARSING))
    answer = await connection.get(target, PYTHON_CLIENT)
    assert answer.statuses == {ONE: COMPLETED, TWO: STARTED}
    await second.report(failure("a"), failure("b"))
    target = f"{STATUS}?dataset={TWO}&pipeline=cognify_pipeline"
    assert (await connection.get(target, PYTHON_CLIENT)).statuses == {TWO: ERRORED}
