"""A file of an earlier version is migrated and served without differences.

`files/main_path.sqlite` was made by commit ff7d6a7, before lists and deletion existed, with a
stopped clock; `main_path.json` has the responses of that server, and tokens of its clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.errors import StartError
from stagecast.model import ALL
from stagecast.store import ReadTransaction
from stagecast.store.sqlite import connection
from stagecast.store.sqlite.migrations import migrations
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.background.node import Node, live, open_node
from tests.builders import get_dataset
from tests.clock import START_US, Clock
from tests.conditions import until
from tests.grpc_calls import read
from tests.process import running
from tests.rpc.calls import Calls, contents, execute, new, refused, stage
from tests.store.encoded_rows import left_to_encode
from tests.validator import WatchRecord

FILES = Path(__file__).parent / "files"
EXPECTED: dict[str, Any] = json.loads((FILES / "main_path.json").read_text())
for _batch in EXPECTED["batches"].values():  # fields that were added later
    _batch |= {"start_after": "0s", "seal_after": "0s"}
A, B, C = sorted(EXPECTED["datasets"])

# Batches by state.
BATCHES = {
    r.BATCH_STATE_PENDING: {(B, "waiting"), (A, "growing")},
    r.BATCH_STATE_RUNNING: {(A, "open")},
    r.BATCH_STATE_PAUSED: set(),
    r.BATCH_STATE_SUCCEEDED: {(C, "repaired"), (A, "well")},
    r.BATCH_STATE_PARTIALLY_SUCCEEDED: {(A, "badly")},
    r.BATCH_STATE_FAILED: {(C, "failed")},
    r.BATCH_STATE_STOPPED: set(),
}


@pytest.fixture
def config(config: Config) -> Config:
    """Settings of a server on a copy of the old file."""
    shutil.copy(FILES / "main_path.sqlite", config.db)
    return config


@pytest.fixture
def clock() -> Clock:
    return Clock(START_US + 60_000_000)


@pytest.fixture
def old(client: Stubs) -> Calls:
    """Calls on the dataset with most batches."""
    return Calls(client, A)


def _plain(message: Any) -> Any:
    return MessageToDict(message, preserving_proto_field_name=True)


async def _answers(client: Stubs) -> dict[str, Any]:
    """Make the requests that were made to the old server."""
    datasets, batches, documents = {}, {}, {}
    for dataset_id in EXPECTED["datasets"]:
        datasets[dataset_id] = _plain(await Calls(client, dataset_id).dataset())
    for name in EXPECTED["batches"]:
        dataset_id, batch_id = name.split("/")
        calls = Calls(client, dataset_id)
        batches[name] = _plain(await calls.batch(batch_id=batch_id))
        page = await calls.page(batch_id=batch_id)
        documents[name] = [_plain(each) for each in page.documents]
    return {"datasets": datasets, "batches": batches, "documents": documents}


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
async def test_every_response_is_unchanged(config: Config, clock: Clock, times: int) -> None:
    for _ in range(times):
        async with App(config, clock=clock) as server, Stubs(server.grpc_address) as client:
            actual = await _answers(client)
    assert actual == {key: EXPECTED[key] for key in actual}


async def test_responses_stay_the_same_once_the_rows_are_encoded(
    server: App, client: Stubs, config: Config
) -> None:
    await until(lambda: not left_to_encode(config.db))
    actual = await _answers(client)
    assert actual == {key: EXPECTED[key] for key in actual}


@pytest.mark.parametrize("name", EXPECTED["tokens"])
async def test_old_token_resumes_without_snapshot_or_gap(old: Calls, name: str) -> None:
    batch_id, last = name.split()[0], EXPECTED["batches"][f"{A}/open"]["revision"]
    token = EXPECTED["tokens"][name]
    begun = old.client.status.WatchBatch(
        ss.WatchBatchRequest(
            dataset_id=A, batch_id=batch_id, resume_token=token, fail_on_expired_token=True
        ),
        timeout=60,
    )
    await begun.initial_metadata()
    await old.stop(batch_id=batch_id)
    actual: list[r.Transition] = []
    messages: list[ss.WatchBatchResponse] = []
    async for message in begun:
        messages.append(message)
        actual += message.transitions
    assert not any(message.HasField("snapshot") for message in messages)
    history = await old.history(batch_id=batch_id)
    assert int(last) < history[-1].revision
    assert actual == history[actual[0].revision - 1 :], "to the end, without a gap"
    first = {"open at 7": 8, "open midway": 11, "open last": 15}[name]
    assert actual[0].revision == first
    assert messages[-1].batch == await old.batch(batch_id=batch_id)


async def test_history_of_batches_and_documents_is_listed(client: Stubs) -> None:
    for name, reported in EXPECTED["batches"].items():
        dataset_id, batch_id = name.split("/")
        calls = Calls(client, dataset_id)
        history = await calls.history(batch_id=batch_id)
        assert [each.revision for each in history] == [*range(1, int(reported["revision"]) + 1)]
        for document in EXPECTED["documents"][name]:
            document_id = document["document_id"]
            mine = await calls.history(document_id, batch_id=batch_id)
            assert mine == [each for each in history if each.document.document_id == document_id]
            # Counters that changed after the last transition are in the document only.
            shown = _plain(mine[-1].document) | {"progress": document["progress"]}
            assert shown == document


async def test_snapshot_shows_the_old_documents(old: Calls) -> None:
    record = WatchRecord()
    for message in await old.watch(batch_id="badly"):
        record.receive(message)
    actual = [_plain(each) for each in record.documents.values()]
    assert actual == EXPECTED["documents"][f"{A}/badly"]


async def test_batches_are_listed_by_their_states(client: Stubs) -> None:
    for state, names in BATCHES.items():
        answer = await client.status.ListBatches(ss.ListBatchesRequest(states=[state]))
        assert {(each.dataset_id, each.batch_id) for each in answer.batches} == names
        assert {each.state for each in answer.batches} <= {state}
    answer = await client.status.ListBatches(ss.ListBatchesRequest())
    assert len(answer.batches) == len(EXPECTED["batches"])


async def test_datasets_are_listed_and_watched(client: Stubs) -> None:
    answer = await client.status.ListDatasets(ss.ListDatasetsRequest())
    assert {each.dataset_id: _plain(each) for each in answer.datasets} == EXPECTED["datasets"]
    watch = client.status.WatchDatasets(ss.WatchDatasetsRequest(), timeout=60)
    message = await read(watch)
    assert message.complete
    assert {each.dataset_id: _plain(each) for each in message.datasets} == EXPECTED["datasets"]
    for dataset_id, batch_id in ((C, "failed"), (A, "open"), (B, "waiting")):
        calls = Calls(client, dataset_id)
        await calls.retry(batch_id=batch_id)
        await calls.stop(batch_id=batch_id)
        shown = r.Dataset()
        while shown != await calls.dataset():
            message = await read(watch)
            [shown] = message.datasets
    await Calls(client, B).delete_dataset()
    assert list((await read(watch)).removed_dataset_ids) == [B]
    watch.cancel()


async def test_old_documents_can_be_paused_resumed_stopped_retried(old: Calls) -> None:
    named = {"batch_id": "open"}
    assert (await old.pause(**named)).changed_documents == 4
    assert (await old.batch(**named)).state == r.BATCH_STATE_PAUSED
    assert (await old.resume(**named)).changed_documents == 4
    assert _plain((await old.batch(**named)).counts) == EXPECTED["batches"][f"{A}/open"]["counts"]
    assert (await old.stop(**named)).changed_documents == 4
    assert (await old.retry(**named)).changed_documents == 4
    assert (await old.retry("one", batch_id="well")).changed_documents == 1


async def test_old_batches_and_datasets_can_be_deleted(
    server: App, client: Stubs, config: Config
) -> None:
    """The state of a dataset follows from the remaining batches of the old file."""
    await Calls(client, C).delete_batch(batch_id="repaired")
    assert (await Calls(client, C).dataset()).state == r.DATASET_STATE_FAILED
    await Calls(client, B).delete_batch(batch_id="waiting")
    await Calls(client, A).delete_dataset()
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=60) as http:
        actual = (await http.get("/api/v1/datasets/status")).json()
    assert actual == {C: "DATASET_PROCESSING_ERRORED"}
    async with asyncio.timeout(60):
        while len(contents(config.db)["transitions"]) > 4:
            await asyncio.to_thread(contents, config.db)
    await Calls(client, A).create("a", batch_id="open")


async def test_repeated_calls_get_the_same_response(old: Calls) -> None:
    well = EXPECTED["batches"][f"{A}/well"]
    again = await old.create("one", "two", batch_id="well")
    assert _plain(again.batch) == well
    assert list(again.document_ids) == ["one", "two"]
    labels = {"team": "search"}
    documents = [
        new(each["document_id"], display_name=each["display_name"], labels=each["labels"])
        for each in EXPECTED["documents"][f"{A}/open"]
    ]
    again = await old.create(*documents, batch_id="open", labels=labels)
    assert _plain(again.batch) == EXPECTED["batches"][f"{A}/open"]
    assert (await refused(old.create("one", batch_id="well"))).reason == "BATCH_EXISTS"


async def test_repeated_request_id_gets_the_same_response(config: Config, clock: Clock) -> None:
    # No batch of the file has a request id; the old schema stored it in this column.
    execute(config.db, "UPDATE batches SET request_id = 'r1' WHERE batch_id = 'badly'")
    async with App(config, clock=clock) as server, Stubs(server.grpc_address) as client:
        again = await Calls(client, A).create("one", "two", batch_id="", request_id="r1")
        assert _plain(again.batch) == EXPECTED["batches"][f"{A}/badly"]


async def test_old_batch_accepts_documents_and_reports(old: Calls) -> None:
    await old.add("late", batch_id="growing")
    await old.report(stage("late", r.STAGE_COMPLETED), batch_id="growing")
    assert (await old.batch(batch_id="growing")).state == r.BATCH_STATE_RUNNING
    assert (await old.dataset()).counts.total == int(EXPECTED["datasets"][A]["counts"]["total"]) + 1


async def test_silent_documents_of_an_old_file_stall(config: Config, clock: Clock) -> None:
    async with open_node(config.db, clock) as node:
        await node.detector.scan()
        await live(clock, 300, [node])
        assert await _stalled(node) == set()
        await live(clock, 2, [node])
        assert await _stalled(node) == {"doc-1", "doc-2", "doc-3"}
        assert (await get_dataset(node.store, A)).counts.stalled == 3


async def _stalled(node: Node) -> set[str]:
    """Return the stalled documents of all batches."""

    def query(tx: ReadTransaction) -> set[str]:
        return {
            document.document_id
            for batch in tx.iterate_batches(None)
            for document in tx.iterate_documents(batch)
            if document.stalled
        }

    return await node.store.read(query, visible=ALL)


# Opening.


async def test_two_processes_can_open_an_old_file_together(config: Config) -> None:
    async with contextlib.AsyncExitStack() as life:
        servers = await asyncio.gather(
            *(life.enter_async_context(running(config.db)) for _ in range(2))
        )
        for server in servers:
            async with Stubs(server.grpc) as client:
                actual = await _answers(client)
                assert actual == {key: EXPECTED[key] for key in actual}


async def test_start_waits_while_another_process_migrates_the_file(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A large file takes minutes, longer than the busy timeout."""
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_MS", 10)
    caplog.set_level(logging.INFO)
    with contextlib.closing(sqlite3.connect(config.db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        opening = asyncio.create_task(asyncio.to_thread(connection.open_writer, config.db))
        await until(lambda: caplog.text.count("waiting") >= 3 or opening.done())
        other.execute("ROLLBACK")
        (await opening).close()
    assert len(contents(config.db)["_sqlite_migrations"]) > 1


def test_start_does_not_wait_for_a_locked_foreign_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_MS", 10)
    path = tmp_path / "foreign.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (id INTEGER)")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StartError, match="not a stagecast database"):
            connection.open_writer(path)


def test_migrations_run_once(config: Config) -> None:
    for _ in range(3):
        connection.open_writer(config.db).close()
    steps = contents(config.db)["_sqlite_migrations"]
    with Database(memory=True) as empty:
        expected = [step.name for step in migrations.pending(empty)]
    assert [step[2] for step in steps] == expected


def test_failed_migration_leaves_the_file_unchanged(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(config.db)
    steps = migrations._migrations

    def fail(_db: Database) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    broken = [*steps[:-1], replace(steps[-1], fn=fail)]
    monkeypatch.setattr(migrations, "_migrations", broken)
    with pytest.raises(StartError):
        connection.open_writer(config.db)
    monkeypatch.undo()
    assert contents(config.db) == before
    connection.open_writer(config.db).close()
