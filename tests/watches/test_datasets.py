"""WatchDatasets: all datasets, then merged changes and removals."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import aio
from sqlite_utils.utils import sqlite3

from stagecast.app import App
from stagecast.client import Stubs, details_of
from stagecast.config import Config
from stagecast.store.sqlite import SqliteStore
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.builders import ENCODER, create
from tests.clock import Clock
from tests.process import running
from tests.rpc.calls import Calls, counters, stage

NEVER = Duration(seconds=300)  # no heartbeat hides a lost notification


class View:
    """The datasets known to one watcher, message by message."""

    def __init__(
        self, call: aio.UnaryStreamCall[s.WatchDatasetsRequest, s.WatchDatasetsResponse]
    ) -> None:
        self.call = call
        self.datasets: dict[str, r.Dataset] = {}
        self.removed: list[str] = []
        self.messages = 0
        self.complete = False

    async def read(self) -> s.WatchDatasetsResponse:
        """Read and apply the next message."""
        async with asyncio.timeout(60):
            message = await self.call.read()
        assert isinstance(message, s.WatchDatasetsResponse), "the stream has ended"
        assert not (message.complete and self.complete), "complete once"
        self.complete = self.complete or message.complete
        self.messages += 1
        ids = [dataset.dataset_id for dataset in message.datasets]
        assert not set(ids) & set(message.removed_dataset_ids)
        assert len(set(ids)) == len(ids)
        self.datasets |= {dataset.dataset_id: dataset for dataset in message.datasets}
        self.removed += message.removed_dataset_ids
        for removed in message.removed_dataset_ids:
            self.datasets.pop(removed, None)
        return message

    async def begin(self) -> None:
        """Read the datasets at the start."""
        while not self.complete:
            message = await self.read()
            assert not message.removed_dataset_ids

    async def read_to(self, dataset: r.Dataset) -> None:
        """Read until the view has this dataset."""
        while self.datasets.get(dataset.dataset_id) != dataset:
            await self.read()

    async def read_to_removal(self, dataset_id: str) -> None:
        """Read until a dataset was removed."""
        while dataset_id not in self.removed:
            await self.read()


@contextlib.asynccontextmanager
async def watching(
    client: Stubs, dataset_ids: Collection[str] = (), *, heartbeat: Duration = NEVER
) -> AsyncIterator[View]:
    """Watch datasets within the block."""
    request = s.WatchDatasetsRequest(dataset_ids=dataset_ids, heartbeat_interval=heartbeat)
    call = client.status.WatchDatasets(request)
    try:
        yield View(call)
    finally:
        call.cancel()


@pytest.fixture
def three(client: Stubs) -> Sequence[Calls]:
    """Calls on three datasets, in the order of their ids."""
    return [Calls(client, each) for each in sorted(str(uuid.uuid4()) for _ in range(3))]


async def test_watch_begins_with_all_datasets(client: Stubs, three: Sequence[Calls]) -> None:
    async with watching(client) as view:
        message = await view.read()
        assert (message.complete, len(message.datasets)) == (True, 0)
        assert message.HasField("server_time")
    for calls in three:
        await calls.create("a")
    async with watching(client) as view:
        await view.begin()
        assert view.messages == 1
        assert view.datasets == {calls.dataset_id: await calls.dataset() for calls in three}


async def test_named_datasets_are_sent_and_no_others(client: Stubs, three: Sequence[Calls]) -> None:
    named, other, later = three
    await named.create("a")
    await other.create("a")
    requested = [named.dataset_id.upper(), named.dataset_id, later.dataset_id]
    async with watching(client, requested) as view:
        await view.begin()
        assert list(view.datasets) == [named.dataset_id]
        await other.stop()
        await other.delete_dataset()
        await later.create("a")
        await view.read_to(await later.dataset())
        await named.stop()
        await view.read_to(await named.dataset())
        assert view.messages == 3, "nothing was sent of the other"
        assert view.datasets.keys() == {named.dataset_id, later.dataset_id}
        assert view.removed == []


async def test_dataset_of_the_previous_release_is_sent(
    client: Stubs, three: Sequence[Calls], config: Config
) -> None:
    """That release knows no change_seq, and writes to the same file."""
    await three[0].create("a")
    with contextlib.closing(sqlite3.connect(config.db)) as other, other:
        other.execute("UPDATE datasets SET change_seq = 0")
    async with watching(client) as view:
        await view.begin()
        assert list(view.datasets) == [three[0].dataset_id]


async def test_watch_of_all_datasets_includes_later_ones(
    client: Stubs, three: Sequence[Calls]
) -> None:
    async with watching(client) as view:
        await view.begin()
        for calls in three:
            await calls.create("a")
            await view.read_to(await calls.dataset())


@pytest.mark.slow
async def test_every_change_of_state_and_counts_arrives(
    client: Stubs, three: Sequence[Calls]
) -> None:
    calls = three[0]
    await calls.create("a", "b", more_documents_follow=True)
    async with watching(client, [calls.dataset_id]) as view:
        await view.begin()
        for change in (
            lambda: calls.start("a"),
            calls.pause,
            calls.resume,
            lambda: calls.add("c"),
            lambda: calls.report(stage("b", r.STAGE_COMPLETED)),
            calls.stop,
            calls.seal,
            calls.retry,
            lambda: calls.create("a", batch_id="b2"),
            calls.delete_batch,
            lambda: calls.delete_batch(batch_id="b2"),
        ):
            await change()
            await view.read_to(await calls.dataset())
        assert view.datasets[calls.dataset_id].batches == 0


async def test_fast_changes_are_merged_into_the_latest(
    client: Stubs, three: Sequence[Calls]
) -> None:
    calls = three[0]
    ids = [f"doc-{number}" for number in range(300)]
    await calls.create(*ids)
    async with watching(client) as view:
        await view.begin()
        await asyncio.gather(*(calls.report(stage(each, r.STAGE_COMPLETED)) for each in ids))
        dataset = await calls.dataset()
        assert dataset.state == r.DATASET_STATE_SUCCEEDED
        await view.read_to(dataset)
        assert view.messages < 100


async def test_progress_alone_sends_nothing(client: Stubs, three: Sequence[Calls]) -> None:
    calls = three[0]
    await calls.create("a")
    async with watching(client) as view:
        await view.begin()
        for number in range(10):
            await calls.report(counters("a", number))
        await calls.start("a")
        await view.read_to(await calls.dataset())
        assert view.messages == 2


async def test_new_name_is_sent(client: Stubs, three: Sequence[Calls]) -> None:
    calls, other, _ = three
    for each in (calls, other):
        await each.create("a")
    async with watching(client) as everything, watching(client, [calls.dataset_id]) as one:
        await everything.begin()
        await one.begin()
        for name in ("Handbook", "Händbuch"):
            # A repeated call, which changes nothing else.
            await calls.create("a", dataset_name=name)
            dataset = await calls.dataset()
            assert dataset.display_name == name
            for view in (everything, one):
                await view.read_to(dataset)
        assert one.messages == 3


async def test_deleted_datasets_are_sent_as_removed(client: Stubs, three: Sequence[Calls]) -> None:
    for calls in three:
        await calls.create("a")
    deleted, also_deleted, remaining = three
    async with watching(client) as everything, watching(client, [deleted.dataset_id]) as one:
        await everything.begin()
        await one.begin()
        await deleted.delete_dataset()
        await also_deleted.delete_dataset()
        await everything.read_to_removal(deleted.dataset_id)
        await everything.read_to_removal(also_deleted.dataset_id)
        await one.read_to_removal(deleted.dataset_id)
        assert list(everything.datasets) == [remaining.dataset_id]
        assert one.removed == [deleted.dataset_id]
        await deleted.create("again")
        await one.read_to(await deleted.dataset())
    async with watching(client) as view:
        await view.begin()
        assert view.datasets.keys() == {deleted.dataset_id, remaining.dataset_id}


async def test_recreated_dataset_is_sent_in_its_current_state(
    client: Stubs, three: Sequence[Calls]
) -> None:
    calls = three[0]
    await calls.create("a")
    async with watching(client) as view:
        await view.begin()
        for number in range(10):
            await calls.delete_dataset()
            await calls.create(*(f"doc-{n}" for n in range(number + 2)))
        await view.read_to(await calls.dataset())
        assert view.datasets[calls.dataset_id].counts.total == 11
        await calls.delete_dataset()
        await view.read_to_removal(calls.dataset_id)
        while view.datasets:
            await view.read()


@pytest.mark.slow
async def test_thousands_of_datasets_come_in_several_messages(
    config: Config, clock: Clock, server: App, client: Stubs
) -> None:
    ids = sorted(str(uuid.uuid4()) for _ in range(5_000))
    store = SqliteStore(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=lambda _: None,
        on_foreign_commit=lambda: None,
    )
    async with watching(client) as early:
        await early.begin()
        for first in range(0, len(ids), 1_000):
            some = ids[first : first + 1_000]
            await asyncio.gather(*(create(store, dataset_id=each) for each in some))
        await store.close()
        async with watching(client) as late, watching(client, ids[::2]) as half:
            await late.begin()
            await half.begin()
            assert late.messages > 1
            assert sorted(late.datasets) == ids
            assert sorted(half.datasets) == ids[::2]
        while len(early.datasets) < len(ids):
            await early.read()
        assert early.datasets == late.datasets


async def test_change_during_the_first_messages_is_not_lost(
    client: Stubs, three: Sequence[Calls]
) -> None:
    for calls in three:
        await calls.create("a")
    racing = asyncio.gather(*(calls.stop() for calls in three))
    async with watching(client) as view:
        await view.begin()
        await racing
        for calls in three:
            await view.read_to(await calls.dataset())


@pytest.mark.slow
async def test_idle_watch_sends_heartbeats(client: Stubs, three: Sequence[Calls]) -> None:
    await three[0].create("a")
    async with watching(client, heartbeat=Duration(seconds=1)) as view:
        await view.begin()
        for _ in range(2):
            message = await view.read()
            assert message == s.WatchDatasetsResponse(server_time=message.server_time)


async def _error_of(view: View) -> aio.AioRpcError:
    """Read to the end and return the error."""
    while True:
        try:
            await view.read()
        except aio.AioRpcError as error:
            return error


async def test_watch_ends_when_the_server_shuts_down(config: Config, clock: Clock) -> None:
    async with contextlib.AsyncExitStack() as life:
        server = await life.enter_async_context(App(config, clock=clock))
        async with Stubs(server.grpc_address) as client, watching(client) as view:
            await view.begin()
            await life.aclose()
            error = await _error_of(view)
    details = details_of(error)
    assert (error.code(), details.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert details.retry_after_s is not None


async def test_watch_ends_at_its_maximum_duration(config: Config, clock: Clock) -> None:
    short = replace(config, watch_life_s=0.3)
    async with (
        App(short, clock=clock) as server,
        Stubs(server.grpc_address) as client,
        watching(client) as view,
    ):
        await view.begin()
        error = await _error_of(view)
    details = details_of(error)
    assert (error.code(), details.reason) == (grpc.StatusCode.UNAVAILABLE, "WATCH_EXPIRED")
    assert details.retry_after_s is not None


@pytest.mark.slow
async def test_changes_of_another_process_arrive(tmp_path: Path, dataset_id: str) -> None:
    db = tmp_path / "stagecast.db"
    async with (
        running(db) as one,
        running(db) as two,
        Stubs(one.grpc) as writing,
        Stubs(two.grpc) as reading,
        watching(reading) as view,
        watching(reading, [dataset_id]) as named,
    ):
        await view.begin()
        await named.begin()
        calls = Calls(writing, dataset_id)
        await calls.create("a")
        for each in (view, named):
            await each.read_to(await calls.dataset())
        await calls.stop()
        for each in (view, named):
            await each.read_to(await calls.dataset())
        await calls.create("a", dataset_name="Handbook")
        for each in (view, named):
            await each.read_to(await calls.dataset())
        assert named.datasets[dataset_id].display_name == "Handbook"
        await calls.delete_dataset()
        for each in (view, named):
            await each.read_to_removal(dataset_id)
