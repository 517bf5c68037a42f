"""Unary RPCs by the Connect protocol."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gzip
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagecast.app import App
from stagecast.config import Config
from stagecast.errors import FieldInvalid
from stagecast.model import Scope
from stagecast.rpc.http.failure import Failure
from stagecast.rpc.http.messages import encode_json
from stagecast.v1 import (
    control_service_pb2,
    report_service_pb2,
    status_service_pb2,
)
from stagecast.v1 import status_service_pb2 as ss
from tests.access import make_key
from tests.clock import Clock
from tests.conditions import until, with_more_time
from tests.rpc.calls import BATCH, Calls
from tests.rpc.http.requests import CONTROLS, REPORTS, STATUS, Http, reason

JSON = {"content-type": "application/json"}
PROTO = {"content-type": "application/proto"}


def rpcs(*, streams: bool) -> list[str]:
    """Return the paths of all RPCs of the protos that stream, or of those that do not."""
    return [
        f"/{service.full_name}/{method.name}"
        for file in (status_service_pb2, report_service_pb2, control_service_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if method.server_streaming is streams
    ]


@pytest.mark.parametrize("path", rpcs(streams=False))
async def test_every_unary_rpc_is_served(http: Http, path: str) -> None:
    response = await http.post(path)
    assert response.status_code in (200, 400), response.text
    if response.status_code == 400:
        assert reason(response) == "FIELD_INVALID", "it is called, with no field set"


@pytest.mark.parametrize("path", rpcs(streams=True))
async def test_stream_is_unimplemented_and_the_error_says_what_to_use(
    http: Http, path: str
) -> None:
    response = await http.post(path)
    assert response.status_code == 501
    assert response.json()["code"] == "unimplemented"
    assert "stream" in response.json()["message"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://rebound.example:8000", 403),
        ("https://127.0.0.1.example", 403),
        ("null", 403),
        ("http://[", 403),
        ("http://127.0.0.1:8000", 200),
        ("http://[::1]:8000", 200),
        ("http://localhost:8000", 200),
    ],
)
async def test_pages_of_a_name_write_nothing_while_no_credentials_are_required(
    config: Config, http: Http, dataset_id: str, origin: str, status: int
) -> None:
    """A name can be pointed at a loopback address after its page was loaded (DNS rebinding)."""
    headers = {"origin": origin}
    created = await http.post(f"{REPORTS}/CreateBatch", headers, datasetId=dataset_id)
    assert created.status_code == status
    read = await http.post(f"{STATUS}/ListBatches", headers, datasetId=dataset_id)
    assert len(read.json().get("batches", ())) == (status == 200)
    if status == 403:
        assert created.json()["code"] == "permission_denied"
        assert "--cors-origin" in created.json()["message"]
        headers["authorization"] = f"Bearer {await make_key(config.db)}"
        created = await http.post(f"{REPORTS}/CreateBatch", headers, datasetId=dataset_id)
        assert created.status_code == 200


async def test_json_creates_reports_controls_and_reads(http: Http, dataset_id: str) -> None:
    names = {"datasetId": dataset_id, "batchId": BATCH}
    created = await http.call(
        f"{REPORTS}/CreateBatch", **names, documents=[{"documentId": "a"}, {"documentId": "b"}]
    )
    assert created["documentIds"] == ["a", "b"]
    assert created["batch"]["revision"] == "4", "64 bits are a string in JSON"
    reports = [{"documentId": "a", "stage": "STAGE_COMPLETED"}]
    reported = await http.call(f"{REPORTS}/Report", **names, reports=reports)
    assert reported["results"][0]["outcome"] == "REPORT_OUTCOME_APPLIED"
    stopped = await http.call(f"{CONTROLS}/Stop", **names)
    assert stopped["batch"]["state"] == "BATCH_STATE_PARTIALLY_SUCCEEDED"
    listed = await http.call(f"{STATUS}/ListDocuments", dataset_id=dataset_id, batch_id=BATCH)
    assert [one["state"] for one in listed["documents"]] == [
        "DOCUMENT_STATE_SUCCEEDED",
        "DOCUMENT_STATE_STOPPED",
    ]


async def test_binary_and_json_answers_are_those_of_grpc(
    http: Http, calls: Calls, dataset_id: str
) -> None:
    await calls.create("a")
    request = ss.GetBatchRequest(dataset_id=dataset_id, batch_id=BATCH)
    expected = await calls.client.status.GetBatch(request)
    binary = await http.client.post(
        f"{STATUS}/GetBatch", content=request.SerializeToString(), headers=PROTO
    )
    assert binary.headers["content-type"] == "application/proto"
    assert ss.GetBatchResponse.FromString(binary.content) == expected
    answer = await http.call(f"{STATUS}/GetBatch", datasetId=dataset_id, batchId=BATCH)
    assert answer["batch"]["batchId"] == expected.batch.batch_id
    assert int(answer["batch"]["revision"]) == expected.batch.revision


async def test_field_that_only_a_newer_client_knows_is_ignored(
    http: Http, calls: Calls, dataset_id: str
) -> None:
    await calls.create("a")
    await http.call(f"{STATUS}/GetBatch", datasetId=dataset_id, batchId=BATCH, newField=[1])


async def test_error_has_the_code_the_message_and_the_details_of_grpc(
    http: Http, dataset_id: str
) -> None:
    response = await http.post(f"{STATUS}/GetBatch", datasetId=dataset_id, batchId="nope")
    assert response.status_code == 404
    assert reason(response) == "BATCH_NOT_FOUND"
    error = response.json()
    assert error["code"] == "not_found"
    assert error["message"] == f"no batch 'nope' in dataset '{dataset_id}'"
    [info] = error["details"]
    assert info["debug"]["metadata"] == {"dataset_id": dataset_id, "batch_id": "nope"}


async def test_invalid_field_is_named(http: Http) -> None:
    response = await http.post(f"{STATUS}/GetDataset", datasetId="no uuid")
    assert response.status_code == 400
    assert reason(response) == "FIELD_INVALID"
    [violation] = response.json()["details"][1]["debug"]["fieldViolations"]
    assert violation["field"] == "dataset_id"


def test_each_code_has_the_http_status_of_the_protocol() -> None:
    actual = {
        failure.name: failure.status
        for code in grpc.StatusCode
        if code is not grpc.StatusCode.OK
        for failure in [Failure(code=code, message="")]
    }
    assert actual == {
        "canceled": 499,
        "unknown": 500,
        "invalid_argument": 400,
        "deadline_exceeded": 504,
        "not_found": 404,
        "already_exists": 409,
        "permission_denied": 403,
        "resource_exhausted": 429,
        "failed_precondition": 400,
        "aborted": 409,
        "out_of_range": 400,
        "unimplemented": 501,
        "internal": 500,
        "unavailable": 503,
        "data_loss": 500,
        "unauthenticated": 401,
    }


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", f"{STATUS}/GetBatch", {}, 405),
        ("OPTIONS", f"{STATUS}/GetBatch", {}, 405),
        ("POST", f"{STATUS}/GetNothing", JSON, 404),
        ("POST", "/stagecast.v1.NoService/GetBatch", JSON, 404),
        ("POST", f"{STATUS}/GetBatch", {}, 415),
        ("POST", f"{STATUS}/GetBatch", {"content-type": "application/connect+json"}, 415),
    ],
)
async def test_what_is_no_call_gets_the_status_that_clients_expect(
    http: Http, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    response = await http.client.request(method, path, content=b"{}", headers=headers)
    assert response.status_code == status
    assert response.json()["code"] == "unimplemented"
    if status == 405:
        assert response.headers["allow"] == "POST"
    if status == 415:
        assert response.headers["accept-post"] == "application/json, application/proto"


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
async def test_parameters_and_case_of_the_content_type_do_not_matter(
    http: Http, content_type: str
) -> None:
    response = await http.client.post(
        f"{STATUS}/ListDatasets", content=b"{}", headers={"content-type": content_type}
    )
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("types", "status"),
    [(["text/plain", "application/json"], 200), (["application/json", "text/plain"], 415)],
)
async def test_the_last_of_several_content_types_counts(
    http: Http, types: list[str], status: int
) -> None:
    headers = [("content-type", each) for each in types]
    url = f"{STATUS}/ListDatasets"
    response = await http.client.post(url, content=b"{}", headers=headers)
    assert response.status_code == status


async def test_rpcs_are_served_with_and_without_the_prefix_of_a_proxy(
    config: Config, dataset_id: str
) -> None:
    async with (
        App(dataclasses.replace(config, http_root_path="/ingestion")) as server,
        httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=60) as client,
    ):
        for prefix in ("", "/ingestion"):
            called = await client.post(f"{prefix}{STATUS}/ListDatasets", json={})
            watched = await client.get(f"{prefix}/v1/datasets/{dataset_id}/batches/none/watch")
            assert (called.status_code, reason(watched)) == (200, "BATCH_NOT_FOUND")


@pytest.mark.parametrize(
    ("header", "value"),
    [("connect-protocol-version", "2"), ("connect-timeout-ms", "soon")],
)
async def test_invalid_header_of_the_protocol_is_refused(
    http: Http, header: str, value: str
) -> None:
    response = await http.post(f"{STATUS}/ListDatasets", {header: value})
    assert response.status_code == 400
    assert response.json()["code"] == "invalid_argument"


async def test_compressed_request_is_unimplemented(http: Http) -> None:
    response = await http.client.post(
        f"{STATUS}/ListDatasets",
        content=gzip.compress(b"{}"),
        headers=JSON | {"content-encoding": "gzip"},
    )
    assert response.status_code == 501
    assert response.json()["code"] == "unimplemented"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b"null", b'{"datasetId": 5}', b"[" * 100_000]
)
async def test_malformed_json_is_an_invalid_field(http: Http, body: bytes) -> None:
    response = await http.client.post(f"{STATUS}/GetDataset", content=body, headers=JSON)
    assert response.status_code == 400
    assert reason(response) == "FIELD_INVALID"


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_json_is_a_message_or_an_invalid_field(body: bytes) -> None:
    with contextlib.suppress(FieldInvalid):
        asyncio.run(encode_json(ss.WatchBatchRequest, body))


@pytest.mark.parametrize(
    ("rpc", "fields", "field"),
    [
        (f"{STATUS}/ListBatches", {"states": ["BATCH_STATE_FAILED", "FAILED"]}, "states[1]"),
        (f"{REPORTS}/Report", {"reports": [{"stage": "PARSING"}]}, "reports[0].stage"),
    ],
)
async def test_unknown_name_in_an_enum_is_refused_with_those_that_exist(
    http: Http, rpc: str, fields: dict[str, Any], field: str
) -> None:
    response = await http.post(rpc, **fields)
    assert (response.status_code, reason(response)) == (400, "FIELD_INVALID")
    assert response.json()["message"].startswith(f"{field}: unknown value '")
    assert "STATE_FAILED" in response.text or "STAGE_PARSING" in response.text


@pytest.mark.parametrize("state", ["BATCH_STATE_FAILED", 6, "6"])
async def test_value_of_an_enum_is_a_name_or_a_number(http: Http, state: object) -> None:
    assert await http.call(f"{STATUS}/ListBatches", states=[state], new_field=[state]) == {}


async def test_malformed_binary_request_is_an_invalid_field(http: Http) -> None:
    response = await http.client.post(f"{STATUS}/GetDataset", content=b"\xff", headers=PROTO)
    assert response.status_code == 400
    assert reason(response) == "FIELD_INVALID"


async def test_request_that_is_too_large_is_refused(
    config: Config, http: Http, dataset_id: str
) -> None:
    largest = b"{}".ljust(config.max_message_bytes)
    response = await http.client.post(f"{STATUS}/ListDatasets", content=largest, headers=JSON)
    assert response.status_code == 200
    response = await http.client.post(
        f"{STATUS}/ListDatasets", content=largest + b" ", headers=JSON
    )
    assert response.status_code == 429
    assert response.json()["code"] == "resource_exhausted"


async def test_large_request_and_answer_are_whole(http: Http, dataset_id: str) -> None:
    names = {"datasetId": dataset_id, "batchId": BATCH}
    documents = [{"documentId": f"{n}", "displayName": "x" * 200} for n in range(1_000)]
    await http.call(f"{REPORTS}/CreateBatch", **names, documents=documents)
    listed = await http.call(f"{STATUS}/ListDocuments", **names, pageSize=1_000)
    assert [one["documentId"] for one in listed["documents"]] == [str(n) for n in range(1_000)]


async def test_wait_answers_before_the_timeout_of_its_client(
    http: Http, calls: Calls, dataset_id: str
) -> None:
    await calls.create("a")
    names = {"datasetId": dataset_id, "batchId": BATCH}

    async def wait(timer_s: float) -> None:
        headers = {"connect-timeout-ms": f"{timer_s * 1_000:.0f}"}
        response = await http.post(f"{STATUS}/WaitBatch", headers, **names)
        assert (response.status_code, "done" in response.json()) == (200, False)

    await with_more_time(wait, 1)


async def test_call_that_takes_longer_than_its_timeout_is_ended(
    http: Http, calls: Calls, dataset_id: str
) -> None:
    await calls.create("a")
    names = {"datasetId": dataset_id, "batchId": BATCH}
    response = await http.post(f"{STATUS}/WaitBatch", {"connect-timeout-ms": "0"}, **names)
    assert response.status_code == 504
    assert response.json()["code"] == "deadline_exceeded"


async def test_client_that_disconnects_ends_its_call(
    server: App, calls: Calls, dataset_id: str
) -> None:
    await calls.create("a")
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=60) as client:
        names = {"datasetId": dataset_id, "batchId": BATCH}
        waiting = asyncio.create_task(client.post(f"{STATUS}/WaitBatch", json=names))
        await until(lambda: server.open_watches == 1)
        waiting.cancel()
        await until(lambda: server.open_watches == 0)


async def test_waiting_call_is_told_that_the_server_is_draining(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    async with App(config, clock=clock) as app, asyncio.timeout(60):
        client = httpx.AsyncClient(base_url=f"http://{app.http_address}", timeout=60)
        names = {"datasetId": dataset_id, "batchId": BATCH}
        await client.post(f"{REPORTS}/CreateBatch", json=names | {"moreDocumentsFollow": True})
        waiting = asyncio.create_task(client.post(f"{STATUS}/WaitBatch", json=names))
        await until(lambda: app.open_watches == 1)
    response = await waiting
    assert response.status_code == 503
    assert reason(response) == "DRAINING"
    assert int(response.headers["retry-after"]) >= 1
    await client.aclose()


async def test_request_that_does_not_arrive_is_given_up(config: Config, clock: Clock) -> None:
    brief = dataclasses.replace(config, request_s=0.2)
    async with App(brief, clock=clock) as app:
        host, _, port = app.http_address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST {STATUS}/GetDataset HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
            'content-length: 100\r\n\r\n{"dataset'.encode()
        )
        async with asyncio.timeout(60):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 429 ")
            assert b"SLOW_SENDER" in await reader.read(1_000)
        writer.close()


@pytest.fixture
async def keys(config: Config) -> dict[Scope, str]:
    """A key for each scope, made before the server starts."""
    return {scope: await make_key(config.db, scope) for scope in Scope}


@pytest.fixture
async def guarded(
    config: Config, clock: Clock, keys: dict[Scope, str]
) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key, of a server that requires one."""
    async with (
        App(config, clock=clock) as app,
        httpx.AsyncClient(base_url=f"http://{app.http_address}", timeout=60) as client,
    ):
        yield client


@pytest.mark.parametrize("path", rpcs(streams=False))
async def test_every_rpc_requires_a_credential_before_its_body(
    guarded: httpx.AsyncClient, path: str
) -> None:
    response = await guarded.post(path, content=b"{", headers=JSON)
    assert response.status_code == 401
    assert reason(response) == "CREDENTIALS_MISSING"
    assert response.headers["www-authenticate"] == "Bearer"


async def test_key_counts_as_bearer_or_api_key_and_needs_the_scope(
    guarded: httpx.AsyncClient, keys: dict[Scope, str]
) -> None:
    async def list_datasets(**headers: Any) -> httpx.Response:
        return await guarded.post(f"{STATUS}/ListDatasets", json={}, headers=headers)

    assert (await list_datasets(authorization=f"Bearer {keys[Scope.READ]}")).status_code == 200
    assert (await list_datasets(**{"x-api-key": keys[Scope.READ]})).status_code == 200
    denied = await list_datasets(authorization=f"Bearer {keys[Scope.REPORT]}")
    assert (denied.status_code, reason(denied)) == (403, "SCOPE_MISSING")
    odd = await list_datasets(authorization=b"Bearer \xff\xfe")
    assert (odd.status_code, reason(odd)) == (401, "CREDENTIALS_INVALID")
