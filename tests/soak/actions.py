"""Actions of users and operators during a run, and what watchers must receive for each.

An action continues through all faults, and ends when every watcher has received its outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from stagecast.app import opened_store, wall_clock
from stagecast.background.retention import Retention
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.errors import StoreBusy
from stagecast.model import Scope
from stagecast.v1 import control_service_pb2 as cs
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1.status_service_pb2_grpc import StatusServiceStub
from tests.access import make_key, revoke
from tests.conditions import until
from tests.rpc.test_slow_readers import NO_READ_AHEAD
from tests.soak.copies import check_copy
from tests.soak.event_watchers import EventWatchers
from tests.soak.servers import Servers
from tests.soak.watchers import DatasetsView, Record, Watchers
from tests.soak.work import Work
from tests.watches.pipeline import STAGES, Pipeline, retrying

T = TypeVar("T")

_WATCHERS = 3  # of the batch of an action
_STOPPED_READERS = 10
_STOPPED_BROWSERS = 4
_HEARTBEATS = 5  # one a second; slow readers have one second
_LATER_US = 3_600_000_000  # when history may be deleted: not within ten minutes of the end
_WITHIN_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Site:
    """What actions need.

    Attributes:
        anywhere: a client whose calls go to any of the servers.
        works: the batches of the run.
        event_watchers: the watchers over HTTP.
    """

    db: Path
    key: str
    servers: Servers
    anywhere: Any
    works: list[Work]
    watchers: Watchers
    event_watchers: EventWatchers

    def pipeline(self) -> Pipeline:
        """Return a batch, not yet created, in a dataset of its own."""
        return Pipeline(self.anywhere, str(uuid4()))

    async def on_file(self, access: Callable[[], Awaitable[T]]) -> T:
        """Access the file beside the servers; retry while others hold its lock."""
        while True:
            async with self.servers.file:
                with contextlib.suppress(StoreBusy):
                    return await access()
            await asyncio.sleep(0.1)


async def revoke_a_key(site: Site) -> None:
    """A watch whose key is revoked ends at once; other watches of the batch continue."""
    key = await site.on_file(partial(make_key, site.db, Scope.READ))
    work, record = site.works[0], Record()
    async with Stubs(site.servers.addresses[0], key=key) as client:
        own = Pipeline(client, work.dataset_id, work.batch_id)
        watch = partial(site.watchers.watch, own, record, heartbeat_interval=Duration(seconds=1))
        while not record.resume_token:  # a new key takes a moment to reach the server
            watching = _begin(watch())
            await until(partial(_has_begun_or_ended, record, watching), within_s=_WITHIN_S)
        await site.on_file(partial(revoke, site.db, key))
        assert await watching == "CREDENTIALS_INVALID"


def _has_begun_or_ended(record: Record, watching: asyncio.Task[str]) -> bool:
    return bool(record.resume_token) or watching.done()


async def delete_under_watchers(site: Site) -> None:
    """Watches of a batch end with a reason when it, or its dataset, is deleted."""
    for whole in (False, True):
        while not await _delete_under_watchers(site, whole=whole):
            pass


async def _delete_under_watchers(site: Site, *, whole: bool) -> bool:
    """Return whether a `WatchDatasets` stream showed the change without a reconnect."""
    pipeline, view = site.pipeline(), DatasetsView()
    await retrying(partial(pipeline.create, 5))
    viewing = asyncio.create_task(view.watch(site.anywhere, pipeline.dataset_id))
    try:
        async with _watched(site, pipeline) as (records, watching):
            await until(lambda: pipeline.dataset_id in view.known)
            await retrying(partial(_delete, pipeline, whole=whole))
            for record, reason in zip(records, await asyncio.gather(*watching), strict=True):
                # A watch that was not connected at that moment finds nothing later.
                assert reason == "BATCH_DELETED" or (record.hangups and reason == "BATCH_NOT_FOUND")
        left = None if whole else 0
        await until(lambda: view.complete and view.batches(pipeline.dataset_id) == left)
        return view.streams == 1
    finally:
        viewing.cancel()


async def _delete(pipeline: Pipeline, *, whole: bool) -> None:
    names = {"dataset_id": pipeline.dataset_id}
    controls = pipeline.client.controls
    try:
        if whole:
            await controls.DeleteDataset(cs.DeleteDatasetRequest(**names))
        else:
            names["batch_id"] = pipeline.batch_id
            await controls.DeleteBatch(cs.DeleteBatchRequest(**names))
    except aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:  # as when a call is repeated
            raise


async def delete_history(site: Site) -> None:
    """A token of deleted history gets an error or a new snapshot, as the request says."""
    pipeline = site.pipeline()
    await retrying(partial(pipeline.create, 5))
    async with _watched(site, pipeline) as (records, watching):
        early = [record.resume_token for record in records]
        for stage in STAGES:
            await retrying(partial(pipeline.stage, stage))
        assert await asyncio.gather(*watching) == [""] * _WATCHERS
    await site.on_file(partial(_run_retention, site.db))
    stored = await retrying(pipeline.documents)
    for token in early:
        record = Record()
        assert await site.watchers.watch(pipeline, record, resume_token=token) == ""
        assert record.reasons == ["TOKEN_EXPIRED"]
        assert record.documents == stored
        fails = {"resume_token": token, "fail_on_expired_token": True}
        assert await site.watchers.watch(pipeline, Record(), **fails) == "TOKEN_EXPIRED"


async def _run_retention(db: Path) -> None:
    """Delete all but the last transition of ended batches, as a server would in an hour."""
    async with opened_store(db) as store:
        await Retention(
            store,
            config=Config(db=db, retain_transitions=1),
            clock=lambda: wall_clock() + _LATER_US,
            on_deleted=lambda: None,
        ).run_once()


async def stop_reading(site: Site) -> None:
    """Watches that are not read end with `SLOW_READER`, received when they are read again."""
    errors = site.watchers.errors
    before = errors["SLOW_READER"]
    while errors["SLOW_READER"] == before:  # the server may have died instead
        await _stop_and_read_on(site)


async def _stop_and_read_on(site: Site) -> None:
    """Watch a large batch, read nothing until the timeout of the server, and read on."""
    pipeline = site.pipeline()
    await retrying(partial(pipeline.create, 3_000))
    address, metadata = site.servers.addresses[1], (("x-api-key", site.key),)
    async with aio.insecure_channel(address, options=NO_READ_AHEAD) as channel:
        watch = partial(StatusServiceStub(channel).WatchBatch, pipeline.watch_request())
        calls = [watch(metadata=metadata, wait_for_ready=True) for _ in range(_STOPPED_READERS)]
        async with asyncio.timeout(_WITHIN_S):
            await _wait_for_heartbeats(site, address, _HEARTBEATS)
        # Watches that have not ended, since the server was down meanwhile, end with the batch.
        name = {"dataset_id": pipeline.dataset_id, "batch_id": pipeline.batch_id}
        await retrying(lambda: site.anywhere.controls.Stop(cs.StopRequest(**name)))
        await asyncio.gather(*(_read_on(site, call) for call in calls))


async def stop_reading_events(site: Site) -> None:
    """Streams of events that are not read end with `SLOW_READER`.

    Whoever reads on before the server closes the connection, a second later, receives it.
    """
    before = site.event_watchers.slow
    while site.event_watchers.slow == before:  # the server may have died instead
        await _stop_and_read_events_on(site)


async def _stop_and_read_events_on(site: Site) -> None:
    """Stop several readers, and let each read on a second later than the one before."""
    pipeline, address = site.pipeline(), site.servers.http_addresses[1]
    await retrying(partial(pipeline.create, 10_000, more_documents_follow=True))
    await retrying(partial(_add_documents, pipeline, 10_000))  # more than the system buffers
    with contextlib.suppress(ConnectionError), contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.socket()) for _ in range(_STOPPED_BROWSERS)]
        for connection in connections:
            await site.event_watchers.stop_reading(connection, pipeline, address)
        for connection in connections:
            async with asyncio.timeout(_WITHIN_S):
                await _wait_for_heartbeats(site, site.servers.addresses[1], 2)  # after a second
            reading = asyncio.create_task(site.event_watchers.read_on(connection))
            # Ends the stream of one that was not blocked, since the server was stopped meanwhile.
            await retrying(partial(_delete, pipeline, whole=False))
            await reading


async def _add_documents(pipeline: Pipeline, documents: int) -> None:
    added = [pb.NewDocument(document_id=f"added-{n}") for n in range(documents)]
    name = {"dataset_id": pipeline.dataset_id, "batch_id": pipeline.batch_id}
    await pipeline.client.reports.AddDocuments(pb.AddDocumentsRequest(**name, documents=added))


async def _wait_for_heartbeats(site: Site, address: str, messages: int) -> None:
    """Wait for so many messages of a server, a second apart, so that time passes for it."""
    pipeline, second = site.pipeline(), Duration(seconds=1)
    await retrying(partial(pipeline.create, 1))
    request = pipeline.watch_request(heartbeat_interval=second)
    async with aio.insecure_channel(address) as channel:
        while messages > 0:
            watch = StatusServiceStub(channel).WatchBatch(
                request, metadata=(("x-api-key", site.key),), wait_for_ready=True
            )
            with contextlib.suppress(aio.AioRpcError):
                while messages > 0 and await watch.read():
                    messages -= 1
            watch.cancel()


async def _read_on(site: Site, call: Any) -> None:
    try:
        async for _ in call:
            pass
    except aio.AioRpcError as error:
        site.watchers.note(error)


async def back_up_under_load(site: Site) -> None:
    """A copy is sound, and holds everything acknowledged before it was started."""
    copy = site.db.with_name(f"{uuid4()}.db")
    acknowledged = [list(work.acknowledged) for work in site.works]
    await site.servers.back_up(copy)
    for work, before in zip(site.works, acknowledged, strict=True):
        await check_copy(copy, work, before)
    copy.unlink()


async def abandon_document(site: Site) -> None:
    """A silent document stalls, recovers at a heartbeat, and fails after another silence."""
    pipeline, record, second = site.pipeline(), Record(), Duration(seconds=1)
    await retrying(partial(pipeline.create, 1, stall_after=second, fail_after=second))
    watching = _begin(site.watchers.watch(pipeline, record))
    await retrying(partial(pipeline.start, "doc-0", "w"))
    await until(partial(_has_stalled_or_ended, record, watching), within_s=_WITHIN_S)
    heartbeat = pb.HeartbeatRequest(
        dataset_id=pipeline.dataset_id,
        batch_id=pipeline.batch_id,
        documents=[pb.HeartbeatDocument(document_id="doc-0")],
    )
    await retrying(lambda: site.anywhere.reports.Heartbeat(heartbeat))
    assert await watching == ""
    assert record.documents["doc-0"].error.reason == "WORKER_LOST"


def _has_stalled_or_ended(record: Record, watching: asyncio.Task[str]) -> bool:
    kinds = {transition.kind for transition in record.transitions.values()}
    return r.TRANSITION_KIND_STALLED in kinds or watching.done()


# It needs seconds in which no process with the stall detector is killed.
SLOW = "documents left alone until they were lost"

ACTIONS: dict[str, Callable[[Site], Coroutine[Any, Any, None]]] = {
    "keys revoked under a watch": revoke_a_key,
    "batches and datasets deleted under watches": delete_under_watchers,
    "histories deleted": delete_history,
    "readers stopped": stop_reading,
    "readers over HTTP stopped": stop_reading_events,
    "copies taken under load": back_up_under_load,
    SLOW: abandon_document,
}


async def perform(site: Site, name: str) -> None:
    """Perform one of the actions, with a generous time limit."""
    async with asyncio.timeout(_WITHIN_S):
        await ACTIONS[name](site)


def _begin(watching: Any) -> asyncio.Task[str]:
    return asyncio.create_task(watching)


@contextlib.asynccontextmanager
async def _watched(
    site: Site, pipeline: Pipeline
) -> AsyncIterator[tuple[list[Record], list[asyncio.Task[str]]]]:
    """Watch a batch during the block, which starts when all watchers have its documents."""
    records = [Record() for _ in range(_WATCHERS)]
    watching = [_begin(site.watchers.watch(pipeline, record)) for record in records]
    try:
        await until(lambda: all(record.resume_token for record in records), within_s=_WITHIN_S)
        yield records, watching
    finally:
        for task in watching:
            task.cancel()
