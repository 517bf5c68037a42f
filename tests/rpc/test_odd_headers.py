"""Headers that no gRPC client would send do not affect other clients."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from stagecast.app import App
from stagecast.auth import bearer_of
from stagecast.client import Stubs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.rpc.calls import BATCH, Calls, stage
from tests.rpc.http2 import raw_connection

LIST = "/stagecast.v1.StatusService/ListDatasets"
BYTE = "\udcff"  # not UTF-8

ODD = {
    "method that is not UTF-8": {":path": f"/{BYTE}/x"},
    "method of ours that is not UTF-8": {":path": f"{LIST}{BYTE}"},
    "method without a slash": {":path": "x"},
    "method that is a slash": {":path": "/"},
    "method with a control character": {":path": "/a\nb/c"},
    "no method": {":path": ""},
    "authority that is not UTF-8": {":authority": BYTE},
    "trailers that are not UTF-8": {"te": BYTE},
    "timeout that is not UTF-8": {"grpc-timeout": BYTE},
    "encoding that is not UTF-8": {"grpc-encoding": BYTE},
    "content type that is not UTF-8": {"content-type": f"application/grpc+{BYTE}"},
    "HTTP method that is not UTF-8": {":method": BYTE},
    "user agent that is not UTF-8": {"user-agent": BYTE},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_odd_header_affects_neither_new_calls_nor_watches(
    server: App, calls: Calls, odd: dict[str, str]
) -> None:
    await calls.create("a")
    request = ss.WatchBatchRequest(dataset_id=calls.dataset_id, batch_id=BATCH, follow=True)
    watch: Any = calls.client.status.WatchBatch(request, timeout=60)
    assert (await watch.read()).HasField("snapshot")
    async with raw_connection(server.grpc_address) as connection:
        for _ in range(3):
            connection.begin(LIST, bytes(5), **odd)
        await connection.ping()  # answered after all of them have been read
    async with Stubs(server.grpc_address) as other:
        reports = Calls(other, calls.dataset_id).outcomes(stage("a", r.STAGE_PARSING))
        assert await asyncio.wait_for(reports, 60) == ["APPLIED"]
    while not (await watch.read()).transitions:
        pass
    watch.cancel()
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"http://{server.http_address}/readyz")).status_code == 200


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_key_that_is_not_utf_8_is_not_logged(
    server: App, calls: Calls, caplog: pytest.LogCaptureFixture, header: str
) -> None:
    async with raw_connection(server.grpc_address) as connection:
        connection.begin(LIST, bytes(5), **{header: f"Bearer stagecast_secret{BYTE}"})
        await connection.ping()
    await calls.create("a")  # arrives later
    assert "secret" not in caplog.text


def test_no_break_space_is_a_part_of_a_credential() -> None:
    assert bearer_of(" Bearer  key\t") == "key"
    assert bearer_of("Bearer key\u00a0") == "key\u00a0"
