"""Stalled documents in whole servers with real clocks: every face shows the same."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from sqlite_utils.utils import sqlite3

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.cli.command import stagecast
from tests.conditions import until, with_more_time
from tests.process import ServerProcess, running
from tests.rpc.calls import BATCH, Calls, refused, stage

pytestmark = pytest.mark.slow

_SECOND = Duration(seconds=1)


class _Watch:
    """A watch of the batch from its creation until `cancel`."""

    def __init__(self, calls: Calls) -> None:
        request = ss.WatchBatchRequest(dataset_id=calls.dataset_id, batch_id=BATCH, follow=True)
        self._stream = calls.client.status.WatchBatch(request, timeout=600)
        self._messages = aiter(self._stream)

    async def until(self, kind: r.TransitionKind.ValueType) -> ss.WatchBatchResponse:
        """Return the next message with a transition of a kind."""
        while True:
            message = await anext(self._messages)
            if any(transition.kind == kind for transition in message.transitions):
                return message

    def cancel(self) -> None:
        self._stream.cancel()


@pytest.fixture
async def server(config: Config) -> AsyncIterator[App]:
    """A server with a real clock."""
    async with App(config) as app:
        yield app


async def _rest(server: App, dataset_id: str) -> tuple[dict[str, object], str]:
    """Return the first document at Dify's path, and the state of the dataset at Cognee's."""
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=60) as http:
        dify = await http.get(f"/v1/datasets/{dataset_id}/documents/{BATCH}/indexing-status")
        cognee = await http.get("/api/v1/datasets/status", params={"dataset": dataset_id})
    return dify.json()["data"][0], cognee.json()[dataset_id]


async def test_stalled_recovered_and_lost_are_the_same_on_every_face(
    server: App, client: Stubs, dataset_id: str
) -> None:
    async def stall(timer_s: float) -> None:
        calls = Calls(client, f"{dataset_id[:-2]}{round(timer_s):02}")
        timers = {"stall_after": timer_s, "fail_after": 3 * timer_s}
        await calls.create("a", **{name: _duration(of_s) for name, of_s in timers.items()})
        await _check_stalled_recovered_and_lost(server, calls)

    # The checks before the next stall and before the failure may take longer on a slow machine.
    await with_more_time(stall, 1)


def _duration(seconds: float) -> Duration:
    return Duration(seconds=round(seconds))


async def _check_stalled_recovered_and_lost(server: App, calls: Calls) -> None:
    watch = _Watch(calls)
    await calls.start("a")
    await calls.report(stage("a", r.STAGE_CLEANING))

    message = await watch.until(r.TRANSITION_KIND_STALLED)
    [transition] = message.transitions
    assert transition.document.stalled
    assert transition.document == await calls.document("a")
    assert message.batch == await calls.batch()
    assert (message.batch.counts.running, message.batch.counts.stalled) == (1, 1)
    assert message.batch.state == r.BATCH_STATE_RUNNING
    assert (await calls.dataset()).counts == message.batch.counts
    shown, dataset = await _rest(server, calls.dataset_id)
    assert (shown["indexing_status"], shown["error"]) == ("cleaning", None)
    assert dataset == "DATASET_PROCESSING_STARTED"

    assert await calls.orders("a") == [rs.WORKER_ORDER_GO_ON]
    message = await watch.until(r.TRANSITION_KIND_RECOVERED)
    assert message.batch.counts.stalled == 0
    assert not message.transitions[0].document.stalled

    await watch.until(r.TRANSITION_KIND_STALLED)
    message = await watch.until(r.TRANSITION_KIND_FAILED)
    [transition] = message.transitions
    assert transition.document.error.reason == "WORKER_LOST"
    assert transition.document == await calls.document("a")
    assert message.batch == await calls.batch()
    assert message.batch.state == r.BATCH_STATE_FAILED
    assert message.batch.counts.stalled == 0
    assert (await calls.dataset()).state == r.DATASET_STATE_FAILED
    shown, dataset = await _rest(server, calls.dataset_id)
    assert shown["indexing_status"] == "error"
    assert shown["error"] == transition.document.error.message != ""
    assert dataset == "DATASET_PROCESSING_ERRORED"
    watch.cancel()


async def test_overdue_and_started_are_the_same_on_every_face(
    server: App, client: Stubs, dataset_id: str
) -> None:
    calls = Calls(client, dataset_id)
    await calls.create("a", start_after=_SECOND)
    watch = _Watch(calls)
    message = await watch.until(r.TRANSITION_KIND_STALLED)
    [transition] = message.transitions
    assert transition.document == await calls.document("a")
    assert (transition.document.state, transition.document.stalled) == (
        r.DOCUMENT_STATE_PENDING,
        True,
    )
    assert message.batch == await calls.batch()
    assert (message.batch.counts.pending, message.batch.counts.stalled) == (1, 1)
    assert message.batch.state == r.BATCH_STATE_PENDING
    assert (await calls.dataset()).counts == message.batch.counts
    shown, dataset = await _rest(server, dataset_id)
    assert (shown["indexing_status"], dataset) == ("waiting", "DATASET_PROCESSING_INITIATED")
    ended = await stagecast("status", "--grpc", server.grpc_address, dataset_id, BATCH)
    assert "\t1 pending, 1 of them stalled\n" in ended.out
    assert "\na\tstalled\twaiting\t" in ended.out
    await calls.start("a")
    message = await watch.until(r.TRANSITION_KIND_STARTED)
    assert not message.transitions[0].document.stalled
    assert message.batch.counts.stalled == 0
    ended = await stagecast("history", "--grpc", server.grpc_address, dataset_id, BATCH, "a")
    assert "\tstarted\ta\tstalled\twaiting\trunning\twaiting\t" in ended.out
    watch.cancel()


async def test_idle_batch_is_sealed_and_ends_on_every_face(
    server: App, client: Stubs, dataset_id: str
) -> None:
    calls = Calls(client, dataset_id)
    await calls.create("a", more_documents_follow=True, seal_after=_SECOND)
    watch = client.status.WatchBatch(
        ss.WatchBatchRequest(dataset_id=dataset_id, batch_id=BATCH), timeout=120
    )
    await calls.report(stage("a", r.STAGE_COMPLETED))
    messages = [message async for message in watch]
    assert messages[-1].transitions[-1].kind == r.TRANSITION_KIND_SEALED
    assert messages[-1].batch == await calls.batch()
    assert messages[-1].batch.state == r.BATCH_STATE_SUCCEEDED
    assert (await _rest(server, dataset_id))[1] == "DATASET_PROCESSING_COMPLETED"
    assert (await calls.wait()).done
    refusal = await refused(calls.add("b"))
    assert refusal.reason == "BATCH_SEALED"


async def test_stall_is_detected_when_the_lease_holder_hangs(
    tmp_path: Path, dataset_id: str
) -> None:
    """The first of two processes holds the lease. It is not dead, but suspended."""
    db = tmp_path / "stagecast.db"
    async with running(db) as first, running(db) as second, Stubs(second.grpc) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a", stall_after=_SECOND)
        watch = _Watch(calls)
        await until(lambda: _is_stopped_between_writes(first, db))
        await calls.start("a")
        await watch.until(r.TRANSITION_KIND_STALLED)
        first.process.send_signal(signal.SIGCONT)
        await calls.start("a")
        await watch.until(r.TRANSITION_KIND_RECOVERED)
        await watch.until(r.TRANSITION_KIND_STALLED)
        watch.cancel()
    kinds = [r.TransitionKind.Name(kind) for kind in await _kinds(db, dataset_id)]
    assert kinds[-3:] == [f"TRANSITION_KIND_{name}" for name in ("STALLED", "RECOVERED", "STALLED")]


def _is_stopped_between_writes(server: ServerProcess, db: Path) -> bool:
    """Suspend a process; resume it and return False if it holds the write lock."""
    server.process.send_signal(signal.SIGSTOP)
    with contextlib.closing(sqlite3.connect(db, isolation_level=None, timeout=1)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            server.process.send_signal(signal.SIGCONT)
            return False
        other.execute("ROLLBACK")
        return True


async def _kinds(db: Path, dataset_id: str) -> list[r.TransitionKind.ValueType]:
    async with running(db) as server, Stubs(server.grpc) as client:
        return [transition.kind for transition in await Calls(client, dataset_id).history("a")]
