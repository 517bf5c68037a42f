"""DeleteBatch and DeleteDataset: invisible at once, removed from the file soon after."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.duration_pb2 import Duration

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.v1 import control_service_pb2 as cs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.clock import Clock
from tests.conditions import until
from tests.process import running
from tests.rpc.calls import (
    BATCH,
    Calls,
    Refusal,
    contents,
    counters,
    failure,
    refused,
    stage,
)

NEVER = Duration(seconds=300)  # no heartbeat hides a lost notification
ROWS = ("datasets", "batches", "documents", "transitions", "progress_epochs")


def _deletion(calls: Calls, whole: bool) -> Awaitable[None]:
    return calls.delete_dataset() if whole else calls.delete_batch()


def _watch(calls: Calls, **fields: Any) -> Any:
    names = {"dataset_id": calls.dataset_id, "batch_id": BATCH}
    request = ss.WatchBatchRequest(**names | {"heartbeat_interval": NEVER} | fields)
    return calls.client.status.WatchBatch(request, timeout=60)


def _check_gone(refusal: Refusal, reason: str) -> None:
    assert refusal.code is grpc.StatusCode.NOT_FOUND, refusal
    assert refusal.reason == reason


async def _until_swept(db: Path, **left: int) -> None:
    """Wait until these numbers of rows are left in the file."""
    expected = dict.fromkeys(ROWS, 0) | left

    def is_swept() -> bool:
        tables = contents(db)
        return {name: len(tables[name]) for name in ROWS} == expected

    await until(is_swept)  # by a thread or process of its own


# Invisible at once.


@pytest.mark.parametrize("whole", [False, True], ids=["batch", "dataset"])
async def test_deleted_items_are_gone_for_every_rpc(
    calls: Calls, whole: bool, subtests: pytest.Subtests
) -> None:
    await calls.create("a", more_documents_follow=True)
    await _deletion(calls, whole)
    status, names = calls.client.status, {"dataset_id": calls.dataset_id, "batch_id": BATCH}
    requested: dict[str, Callable[[], Awaitable[Any]]] = {
        "GetBatch": calls.batch,
        "GetDocument": lambda: calls.document("a"),
        "ListDocuments": calls.page,
        "ListTransitions": calls.history,
        "WaitBatch": calls.wait,
        "WatchBatch": calls.watch,
        "AddDocuments": lambda: calls.add("b"),
        "SealBatch": calls.seal,
        "StartAttempt": lambda: calls.start("a"),
        "Report": lambda: calls.report(stage("a", r.STAGE_PARSING)),
        "Pause": calls.pause,
        "Resume": calls.resume,
        "Stop": calls.stop,
        "Retry": calls.retry,
        "DeleteBatch": calls.delete_batch,
    }
    for name, call in requested.items():
        with subtests.test(name):
            refusal = await refused(call())
            _check_gone(refusal, "BATCH_NOT_FOUND")
            assert refusal.metadata == names
    if whole:
        for call in (calls.dataset, calls.delete_dataset):
            refusal = await refused(call())
            _check_gone(refusal, "DATASET_NOT_FOUND")
            assert refusal.metadata == {"dataset_id": calls.dataset_id}
    assert not (await status.ListBatches(ss.ListBatchesRequest())).batches
    datasets = (await status.ListDatasets(ss.ListDatasetsRequest())).datasets
    assert [each.dataset_id for each in datasets] == ([] if whole else [calls.dataset_id])


@pytest.mark.parametrize("whole", [False, True], ids=["batch", "dataset"])
async def test_deleted_items_are_gone_on_both_rest_paths(
    server: App, calls: Calls, whole: bool
) -> None:
    await calls.create("a")
    await _deletion(calls, whole)
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=60) as http:
        # Nor is it visible under the name of its rows until the sweep.
        for batch in (BATCH, "%2F1", "/1"):
            path = f"/v1/datasets/{calls.dataset_id}/documents/{batch}/indexing-status"
            assert (await http.get(path)).status_code == 404
        path = f"/v1/datasets/{calls.dataset_id}/documents/{BATCH}/indexing-status"
        kind = "Dataset" if whole else "Documents"
        assert (await http.get(path)).json()["message"] == f"{kind} not found."
        for requested in ({}, {"dataset": calls.dataset_id}):
            response = await http.get("/api/v1/datasets/status", params=requested)
            assert (response.status_code, response.json()) == (200, {})


@pytest.mark.parametrize("whole", [False, True], ids=["batch", "dataset"])
async def test_open_watches_and_waits_end_with_batch_deleted(calls: Calls, whole: bool) -> None:
    await calls.create("a", "b")
    await calls.create("a", batch_id="other")
    token = await calls.token()
    names = {"dataset_id": calls.dataset_id, "batch_id": BATCH}
    watches = [
        _watch(calls, **fields)
        for fields in ({}, {"follow": True}, {"resume_token": token}, {"transitions_only": True})
    ]
    for watch in watches:
        await watch.read()
    waiting = asyncio.create_task(calls.wait())
    other = _watch(calls, batch_id="other")
    await other.read()
    await calls.batch()  # sent after the others, and answered
    await _deletion(calls, whole)
    for watch in watches:
        refusal = await refused(watch.read())
        _check_gone(refusal, "BATCH_DELETED")
        assert refusal.metadata == names
    refusal = await refused(waiting)
    _check_gone(refusal, "BATCH_DELETED")
    assert refusal.metadata == names
    if whole:
        _check_gone(await refused(other.read()), "BATCH_DELETED")
    else:
        await calls.stop(batch_id="other")
        assert (await other.read()).transitions
    other.cancel()


async def test_watch_ends_even_if_the_id_is_reused_at_once(calls: Calls) -> None:
    await calls.create("a")
    watch = _watch(calls)
    await watch.read()
    waiting = asyncio.create_task(calls.wait())
    await calls.batch()  # sent later, and answered
    deleting = asyncio.create_task(calls.delete_batch())
    creating = asyncio.create_task(calls.create("x", "y", "z"))
    await asyncio.gather(deleting, creating, return_exceptions=True)
    _check_gone(await refused(watch.read()), "BATCH_DELETED")
    _check_gone(await refused(waiting), "BATCH_DELETED")


# Remaining batches.


async def test_last_ended_remaining_batch_decides_the_dataset_state(
    calls: Calls, clock: Clock
) -> None:
    async def state() -> str:
        name = r.DatasetState.Name((await calls.dataset()).state)
        return name.removeprefix("DATASET_STATE_")

    for batch_id, report in (
        ("first", stage("a", r.STAGE_COMPLETED)),
        ("second", failure("a")),
        ("third", stage("a", r.STAGE_COMPLETED)),
    ):
        await calls.create("a", batch_id=batch_id)
        clock.advance(1)
        await calls.report(report, batch_id=batch_id)
    await calls.create("a", batch_id="open")
    assert await state() == "PENDING"
    await calls.delete_batch(batch_id="open")
    assert await state() == "SUCCEEDED"
    clock.advance(1)
    await calls.delete_batch(batch_id="third")
    assert await state() == "FAILED"
    dataset = await calls.dataset()
    assert (dataset.batches, dataset.open_batches) == (2, 0)
    assert dataset.counts == r.DocumentCounts(total=2, succeeded=1, failed=1)
    assert dataset.update_time.ToMicroseconds() == clock.now_us
    await calls.delete_batch(batch_id="second")
    assert await state() == "SUCCEEDED"


async def test_last_ended_batch_may_not_be_the_last_created(calls: Calls, clock: Clock) -> None:
    for batch_id in ("one", "two", "three"):
        await calls.create("a", batch_id=batch_id)
    await calls.report(stage("a", r.STAGE_COMPLETED), batch_id="two")
    clock.advance(1)
    await calls.report(failure("a"), batch_id="one")
    clock.advance(1)
    await calls.report(stage("a", r.STAGE_COMPLETED), batch_id="three")
    await calls.delete_batch(batch_id="three")
    assert (await calls.dataset()).state == r.DATASET_STATE_FAILED


async def test_dataset_without_batches_is_succeeded(calls: Calls) -> None:
    await calls.create("a")
    await calls.report(failure("a"))
    await calls.create("b", batch_id="other")
    await calls.delete_batch()
    await calls.delete_batch(batch_id="other")
    dataset = await calls.dataset()
    assert dataset.state == r.DATASET_STATE_SUCCEEDED
    assert (dataset.batches, dataset.open_batches) == (0, 0)
    assert dataset.counts == r.DocumentCounts()
    await calls.create("a")
    assert (await calls.dataset()).state == r.DATASET_STATE_PENDING


async def test_other_datasets_are_unchanged(calls: Calls, client: Stubs) -> None:
    other = Calls(client, str(uuid.uuid4()))
    for each in (calls, other):
        await each.create("a")
        await each.report(counters("a", 1, 2))
    before = await other.dataset(), await other.batch(), await other.page()
    await calls.delete_dataset()
    after = await other.dataset(), await other.batch(), await other.page()
    assert after[:2] == before[:2]
    assert after[2].documents == before[2].documents


# Reused ids.


@pytest.mark.parametrize("whole", [False, True], ids=["batch", "dataset"])
async def test_reused_id_starts_a_new_history(calls: Calls, whole: bool) -> None:
    await calls.create("a", "b", labels={"k": "v"})
    await calls.report(stage("a", r.STAGE_COMPLETED))
    await _deletion(calls, whole)
    again = await calls.create("a")
    assert (again.batch.revision, list(again.document_ids)) == (3, ["a"])
    assert (await calls.document("a")).state == r.DOCUMENT_STATE_PENDING
    assert [each.revision for each in await calls.history()] == [1, 2, 3]
    dataset = await calls.dataset()
    assert (dataset.batches, dataset.counts) == (1, r.DocumentCounts(total=1, pending=1))


@pytest.mark.parametrize("documents", [1, 2, 9], ids=["shorter", "as_long", "longer"])
async def test_old_token_on_a_reused_id_gets_history_changed(calls: Calls, documents: int) -> None:
    await calls.create("a", "b")
    token = await calls.token()
    await calls.delete_batch()
    created = await calls.create(*(f"doc-{number}" for number in range(documents)))
    watch = _watch(calls, resume_token=token)
    message = await watch.read()
    watch.cancel()
    assert message.snapshot.reason == ss.SNAPSHOT_REASON_HISTORY_CHANGED
    assert len(message.snapshot.documents) == documents
    assert message.revision == created.batch.revision
    refusal = await refused(calls.watch(resume_token=token, fail_on_expired_token=True))
    assert refusal.code is grpc.StatusCode.OUT_OF_RANGE
    assert refusal.reason == "HISTORY_CHANGED"


@pytest.mark.parametrize("whole", [False, True], ids=["batch", "dataset"])
async def test_request_id_of_a_deleted_batch_creates_a_new_one(calls: Calls, whole: bool) -> None:
    first = await calls.create("a", batch_id="", request_id="r1")
    if whole:
        await calls.delete_dataset()
    else:
        await calls.delete_batch(batch_id=first.batch.batch_id)
    again = await calls.create("b", batch_id="", request_id="r1")
    assert again.batch.batch_id != first.batch.batch_id
    assert list(again.document_ids) == ["b"]


async def test_deleting_again_is_not_found(calls: Calls) -> None:
    await calls.create("a")
    await calls.delete_batch()
    await calls.create("a")
    await calls.delete_batch()
    _check_gone(await refused(calls.delete_batch()), "BATCH_NOT_FOUND")
    await calls.delete_dataset()
    _check_gone(await refused(calls.delete_dataset()), "DATASET_NOT_FOUND")


async def test_reports_racing_a_deletion_are_written_or_not_found(calls: Calls) -> None:
    ids = [f"doc-{number}" for number in range(60)]
    await calls.create(*ids)
    reports = [calls.report(stage(each, r.STAGE_PARSING)) for each in ids]
    racing = [asyncio.ensure_future(report) for report in reports]
    deleting = asyncio.create_task(calls.delete_batch())
    answers = await asyncio.gather(*racing, return_exceptions=True)
    await deleting
    for answer in answers:
        if isinstance(answer, grpc.aio.AioRpcError):
            assert answer.code() is grpc.StatusCode.NOT_FOUND
        else:
            assert not isinstance(answer, BaseException)
    assert (await calls.dataset()).counts == r.DocumentCounts()


# The file.


@pytest.mark.parametrize("whole", [False, True], ids=["batch", "dataset"])
async def test_rows_of_deleted_items_are_swept(calls: Calls, config: Config, whole: bool) -> None:
    """More rows than one step of the sweep deletes."""
    other = Calls(calls.client, str(uuid.uuid4()))
    await other.create("a")
    await other.report(counters("a", 1))
    ids = [f"doc-{number}" for number in range(5_000)]
    await calls.create(*ids)
    await calls.stop()
    await calls.create("a", batch_id="second")
    await calls.report(counters("a", 1), batch_id="second")
    await _deletion(calls, whole)
    left = 1 if whole else 2  # batches, of one document each
    await _until_swept(
        config.db,
        datasets=left,
        batches=left,
        documents=left,
        transitions=3 * left,
        progress_epochs=left,
    )
    assert (await other.document("a")).progress.completed_segments == 1
    assert (await other.dataset()).batches == 1


@pytest.mark.slow
async def test_next_server_sweeps_rows_left_by_a_kill(tmp_path: Path) -> None:
    db, dataset_id = tmp_path / "stagecast.db", str(uuid.uuid4())
    ids = [f"doc-{number}" for number in range(10_000)]
    async with running(db) as server, Stubs(server.grpc) as client:
        calls = Calls(client, dataset_id)
        await calls.create(*ids)
        await calls.stop()
        await calls.delete_dataset()
        await server.kill()
    assert contents(db)["batches"], "killed before the end of the sweep"
    async with running(db) as server, Stubs(server.grpc) as client:
        await _until_swept(db)
        calls = Calls(client, dataset_id)
        _check_gone(await refused(calls.dataset()), "DATASET_NOT_FOUND")
        await calls.create("a")
        assert (await calls.batch()).revision == 3


# Unknown ids; invalid fields are in the table of `test_bad_input`.


async def test_unknown_ids_are_not_found(calls: Calls) -> None:
    controls, unknown = calls.client.controls, str(uuid.uuid4())
    await calls.create("a")
    for call, reason, metadata in (
        (
            controls.DeleteBatch(cs.DeleteBatchRequest(dataset_id=unknown, batch_id=BATCH)),
            "BATCH_NOT_FOUND",
            {"dataset_id": unknown, "batch_id": BATCH},
        ),
        (
            calls.delete_batch(batch_id="b2"),
            "BATCH_NOT_FOUND",
            {"dataset_id": calls.dataset_id, "batch_id": "b2"},
        ),
        (
            controls.DeleteDataset(cs.DeleteDatasetRequest(dataset_id=unknown)),
            "DATASET_NOT_FOUND",
            {"dataset_id": unknown},
        ),
    ):
        refusal = await refused(call)
        _check_gone(refusal, reason)
        assert refusal.metadata == metadata
    assert (await calls.dataset()).batches == 1
