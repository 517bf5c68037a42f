"""Watches as server-sent events."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.model import Scope
from stagecast.v1 import control_service_pb2 as cs
from stagecast.v1 import resources_pb2 as r
from tests.access import make_key, revoke
from tests.clock import Clock
from tests.conditions import until
from tests.event_source import EventSource
from tests.rpc.http.requests import Http, reason
from tests.validator import WatchRecord
from tests.watches.pipeline import STAGES, Pipeline


def path_of(pipeline: Pipeline) -> str:
    return f"/v1/datasets/{pipeline.dataset_id}/batches/{pipeline.batch_id}/watch"


async def finish(pipeline: Pipeline) -> None:
    for stage in STAGES:
        await pipeline.stage(stage)


async def test_batch_is_watched_from_its_snapshot_to_its_end(
    http: Http, pipeline: Pipeline
) -> None:
    await pipeline.create(2)
    record = WatchRecord()
    async with http.events(path_of(pipeline)) as stream:
        headers = stream.response.headers
        assert headers["content-type"] == "text/event-stream"
        assert headers["x-accel-buffering"] == "no"
        assert "no-cache" in headers["cache-control"]
        first = await stream.next()
        assert first.json["snapshot"]["reason"] == "SNAPSHOT_REASON_INITIAL"
        assert first.last_id == first.json["resumeToken"]
        record.receive(first.message())
        await finish(pipeline)
        *events, end = await stream.until("end")
        assert await stream.is_over()
    for event in events:
        assert event.last_id == event.json["resumeToken"]
        record.receive(event.message())
    assert sorted(record.transitions) == list(range(5, 15))
    assert record.documents == await pipeline.documents()
    assert end.json["batch"]["state"] == "BATCH_STATE_SUCCEEDED"
    assert end.json["batch"]["revision"] == "14"


async def test_last_event_id_resumes_and_precedes_the_token_of_the_url(
    http: Http, pipeline: Pipeline
) -> None:
    await pipeline.create(1)
    async with http.events(path_of(pipeline)) as stream:
        token = (await stream.next()).last_id
        await pipeline.stage(r.STAGE_PARSING)
        later = (await stream.next()).last_id
    await pipeline.stage(r.STAGE_CLEANING)
    url = f"{path_of(pipeline)}?resume_token={token}"
    async with http.events(url) as stream:
        assert [t["revision"] for t in (await stream.next()).json["transitions"]] == ["4", "5"]
    async with http.events(url, **{"last-event-id": later}) as stream:
        assert [t["revision"] for t in (await stream.next()).json["transitions"]] == ["5"]


async def test_browser_stays_away_once_it_has_the_end(server: App, pipeline: Pipeline) -> None:
    await pipeline.create(1)
    await finish(pipeline)
    source = EventSource(f"http://{server.http_address}{path_of(pipeline)}")
    async with asyncio.timeout(60):
        kinds = [event.kind async for event in source.events()]
    assert kinds == ["message", "end"]
    assert (source.connections, source.closed_by) == (1, 204)


async def test_client_that_missed_only_the_end_gets_it(http: Http, pipeline: Pipeline) -> None:
    await pipeline.create(1)
    await finish(pipeline)
    async with http.events(path_of(pipeline)) as stream:
        token = (await stream.next()).last_id
    async with http.events(path_of(pipeline), **{"last-event-id": token}) as stream:
        end = await stream.next()
    assert (end.kind, end.json["batch"]["state"]) == ("end", "BATCH_STATE_SUCCEEDED")
    assert end.last_id != token


async def test_client_with_the_end_gets_what_a_retry_has_added(
    http: Http, pipeline: Pipeline
) -> None:
    await pipeline.create(1)
    await pipeline.stage(r.STAGE_PARSING)
    stop = cs.StopRequest(dataset_id=pipeline.dataset_id, batch_id=pipeline.batch_id)
    await pipeline.client.controls.Stop(stop)
    async with http.events(path_of(pipeline)) as stream:
        end = (await stream.until("end"))[-1]
    again = {"last-event-id": end.last_id}
    nothing_more = await http.client.get(path_of(pipeline), headers=again)
    assert nothing_more.status_code == 204
    assert "content-length" not in nothing_more.headers, "HTTP forbids it with this status"
    retry = cs.RetryRequest(dataset_id=pipeline.dataset_id, batch_id=pipeline.batch_id)
    await pipeline.client.controls.Retry(retry)
    async with http.events(path_of(pipeline), **again) as stream:
        [transition] = (await stream.next()).json["transitions"]
        assert transition["kind"] == "TRANSITION_KIND_RETRIED"
        await pipeline.client.controls.Stop(stop)
        assert (await stream.until("end"))[-1].last_id != end.last_id


async def test_followed_batch_has_no_end(http: Http, pipeline: Pipeline) -> None:
    await pipeline.create(1)
    await finish(pipeline)
    url = f"{path_of(pipeline)}?follow=true&heartbeat_interval=1s"
    async with http.events(url) as stream:
        event = await stream.next()
        assert (event.kind, event.json["batch"]["state"]) == ("message", "BATCH_STATE_SUCCEEDED")
        assert await stream.comment() == "heartbeat"
    async with http.events(url, **{"last-event-id": f"end:{event.last_id}"}) as stream:
        assert await stream.comment() == "heartbeat"


@pytest.mark.slow
async def test_heartbeats_are_comments(http: Http, pipeline: Pipeline) -> None:
    await pipeline.create(1)
    async with http.events(f"{path_of(pipeline)}?heartbeatInterval=1s") as stream:
        token = (await stream.next()).last_id
        assert await stream.comment() == "heartbeat"
        assert await stream.comment() == "heartbeat"
        assert stream.parser.last_id == token
    async with http.events("/v1/datasets/watch?heartbeat_interval=1s") as stream:
        await stream.next()
        assert await stream.comment() == "heartbeat"


async def test_event_without_a_token_keeps_the_last_id(http: Http, pipeline: Pipeline) -> None:
    await pipeline.create(0, more_documents_follow=True)
    async with http.events(path_of(pipeline)) as stream:
        token = (await stream.next()).last_id
        ids = [f"doc-{n}" for n in range(5_000)]
        documents = [{"documentId": one, "displayName": "x" * 200} for one in ids]
        name = {"datasetId": pipeline.dataset_id, "batchId": pipeline.batch_id}
        await http.call("/stagecast.v1.ReportService/AddDocuments", **name, documents=documents)
        events = [await stream.next()]
        while "resumeToken" not in events[-1].json:
            events.append(await stream.next())
    assert len(events) > 1
    assert {event.last_id for event in events[:-1]} == {token}
    assert events[-1].last_id == events[-1].json["resumeToken"]
    received = [t["document"]["documentId"] for event in events for t in event.json["transitions"]]
    assert received == ids


async def test_transitions_only_leaves_progress_out(http: Http, pipeline: Pipeline) -> None:
    await pipeline.create(1)
    async with http.events(f"{path_of(pipeline)}?transitions_only=true") as stream:
        await stream.next()
        await pipeline.count("doc-0", 1, 10)
        await pipeline.stage(r.STAGE_PARSING)
        assert "progress" not in (await stream.next()).json


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("follow=maybe", "follow"),
        ("heartbeat_interval=soon", "heartbeat_interval"),
        ("heartbeat_interval=1h", "heartbeat_interval"),
        ("heartbeat_interval=3600s", "heartbeat_interval"),
        ("heartbeats=1s", "heartbeats"),
        ("batch_id=other", "batch_id"),
    ],
)
async def test_invalid_query_parameter_is_named(
    http: Http, pipeline: Pipeline, query: str, field: str
) -> None:
    await pipeline.create(1)
    response = await http.client.get(f"{path_of(pipeline)}?{query}")
    assert response.status_code == 400
    assert reason(response) == "FIELD_INVALID"
    assert response.json()["details"][0]["debug"]["metadata"]["field"] == field


async def test_error_before_the_stream_is_an_http_status(http: Http, pipeline: Pipeline) -> None:
    await pipeline.create(1)
    missing = await http.client.get(path_of(pipeline).replace(pipeline.batch_id, "nope"))
    assert (missing.status_code, reason(missing)) == (404, "BATCH_NOT_FOUND")
    foreign = await http.client.get(path_of(pipeline), headers={"last-event-id": "what"})
    assert (foreign.status_code, reason(foreign)) == (400, "TOKEN_INVALID")
    for method in ("POST", "HEAD"):
        wrong = await http.client.request(method, path_of(pipeline))
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")


async def test_deleted_batch_ends_with_an_error_event(http: Http, pipeline: Pipeline) -> None:
    await pipeline.create(1)
    async with http.events(path_of(pipeline)) as stream:
        await stream.next()
        name = {"dataset_id": pipeline.dataset_id, "batch_id": pipeline.batch_id}
        await pipeline.client.controls.DeleteBatch(cs.DeleteBatchRequest(**name))
        event = await stream.next()
        assert await stream.is_over()
    assert event.kind == "error"
    assert (event.json["code"], event.json["reason"]) == ("not_found", "BATCH_DELETED")
    assert "retryAfterMs" not in event.json


async def test_datasets_are_watched_without_ids(
    http: Http, pipeline: Pipeline, dataset_id: str
) -> None:
    async with http.events("/v1/datasets/watch") as stream:
        first = await stream.next()
        assert first.json["complete"]
        await pipeline.create(1)
        changed = await stream.next()
        assert [one["datasetId"] for one in changed.json["datasets"]] == [dataset_id]
        name = cs.DeleteDatasetRequest(dataset_id=dataset_id)
        await pipeline.client.controls.DeleteDataset(name)
        removed = await stream.next()
        assert removed.json["removedDatasetIds"] == [dataset_id]
        assert stream.parser.last_id == ""


async def test_some_datasets_are_named_in_the_query(http: Http, pipeline: Pipeline) -> None:
    await pipeline.create(1)
    other = "00000000-0000-4000-8000-000000000000"
    query = f"dataset_ids={other}&dataset_ids={pipeline.dataset_id}"
    async with http.events(f"/v1/datasets/watch?{query}") as stream:
        first = await stream.next()
    assert [one["datasetId"] for one in first.json["datasets"]] == [pipeline.dataset_id]


async def test_client_that_disconnects_frees_its_watch(
    server: App, http: Http, pipeline: Pipeline
) -> None:
    await pipeline.create(1)
    async with http.events(path_of(pipeline)) as stream:
        await stream.next()
        assert server.open_watches == 1
    await until(lambda: server.open_watches == 0)


async def test_connection_serves_other_requests_after_a_stream(
    server: App, http: Http, pipeline: Pipeline
) -> None:
    await pipeline.create(1)
    await finish(pipeline)
    host, _, port = server.http_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path_of(pipeline)} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
    async with asyncio.timeout(60):
        stream = await reader.readuntil(b"\r\n0\r\n\r\n")
        assert b"event: end" in stream
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    writer.close()


async def test_http_1_0_gets_the_stream_without_chunks(server: App, pipeline: Pipeline) -> None:
    await pipeline.create(1)
    await finish(pipeline)
    host, _, port = server.http_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path_of(pipeline)} HTTP/1.0\r\n\r\n".encode())
    async with asyncio.timeout(60):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body.startswith(b"retry: ")
    assert b"\n\nevent: end\n" in body
    writer.close()


async def test_watch_that_has_lived_its_life_is_resumed_by_itself(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    brief = dataclasses.replace(config, watch_life_s=0.1)
    async with App(brief, clock=clock) as app, Stubs(app.grpc_address) as client:
        pipeline, record = Pipeline(client, dataset_id), WatchRecord()
        await pipeline.create(1)
        source = EventSource(f"http://{app.http_address}{path_of(pipeline)}")
        errors: list[Any] = []
        async with asyncio.timeout(60):
            async for event in source.events():
                if event.kind == "error":
                    errors.append(event.json)
                    retry_ms = source.parser.retry_ms
                    assert retry_ms == 1_000 + event.json["retryAfterMs"]
                    if len(errors) == 3:
                        await finish(pipeline)
                elif event.kind == "message":
                    record.receive(event.message())
    assert {error["reason"] for error in errors} == {"WATCH_EXPIRED"}
    assert record.snapshots == 1
    assert sorted(record.transitions) == list(range(4, 9))
    assert source.closed_by == 204


async def test_drain_ends_streams_with_its_reason(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    async with httpx.AsyncClient(timeout=60) as client, asyncio.timeout(60):
        async with App(config, clock=clock) as app, Stubs(app.grpc_address) as stubs:
            pipeline = Pipeline(stubs, dataset_id)
            await pipeline.create(1)
            opening = Http(client).events(f"http://{app.http_address}{path_of(pipeline)}")
            stream = await opening.__aenter__()
            await stream.next()
        event = await stream.next()
        assert (event.kind, event.json["reason"]) == ("error", "DRAINING")
        assert event.json["retryAfterMs"] > 0
        await opening.__aexit__(None, None, None)


async def test_limit_of_watches_counts_streams_of_both_kinds(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    limited = dataclasses.replace(config, max_watches_per_caller=1)
    async with App(limited, clock=clock) as app, Stubs(app.grpc_address) as stubs:
        pipeline = Pipeline(stubs, dataset_id)
        await pipeline.create(1)
        async with httpx.AsyncClient(base_url=f"http://{app.http_address}") as client:
            async with pipeline.stream() as stream:
                await stream.read()
                refused = await client.get(path_of(pipeline))
            assert (refused.status_code, reason(refused)) == (429, "WATCH_LIMIT")
            assert int(refused.headers["retry-after"]) >= 1


@pytest.fixture
async def key(config: Config) -> str:
    """A key, made before the server starts."""
    return await make_key(config.db)


@pytest.fixture
async def guarded(config: Config, clock: Clock, key: str) -> AsyncIterator[App]:
    async with App(config, clock=clock) as app:
        yield app


async def test_stream_requires_a_key_and_ends_when_it_is_revoked(
    guarded: App, config: Config, key: str, dataset_id: str
) -> None:
    reader = await make_key(config.db, Scope.READ)
    async with (
        Stubs(guarded.grpc_address, key=key) as stubs,
        httpx.AsyncClient(base_url=f"http://{guarded.http_address}", timeout=60) as client,
    ):
        pipeline = Pipeline(stubs, dataset_id)
        await pipeline.create(1)
        refused = await client.get(path_of(pipeline))
        assert (refused.status_code, reason(refused)) == (401, "CREDENTIALS_MISSING")
        authorization = {"authorization": f"Bearer {reader}"}
        url = f"{path_of(pipeline)}?heartbeat_interval=1s"
        async with Http(client).events(url, **authorization) as stream:
            await stream.next()
            await revoke(config.db, reader)
            event = await stream.next()
        assert (event.kind, event.json["reason"]) == ("error", "CREDENTIALS_INVALID")
        hidden = await make_key(config.db, Scope.READ, datasets=[])
        unseen = await client.get(path_of(pipeline), headers={"authorization": f"Bearer {hidden}"})
        assert (unseen.status_code, reason(unseen)) == (404, "BATCH_NOT_FOUND")
