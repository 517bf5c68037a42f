"""Another file is written *into* the open one, as `sqlite3 FILE ".restore COPY"` does.

An older schema is migrated as at a start; a newer or foreign file is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import aio
from grpc_health.v1 import health_pb2

from stagecast.client import Stubs
from stagecast.store.sqlite import inspect_file
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.cli.command import stagecast
from tests.grpc_calls import HealthStub, read
from tests.process import ServerProcess, running
from tests.rpc.calls import Refusal, refusal_of
from tests.store.test_migrations import EXPECTED, FILES
from tests.test_restored import SQLITE_BACKUP
from tests.test_store_faults import foreign, newer
from tests.watches.pipeline import Pipeline, retrying

pytestmark = pytest.mark.slow

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NEVER = Duration(seconds=300)  # no heartbeat hides a lost notification


class Scene:
    """A server with a batch, whose file will be overwritten."""

    def __init__(self, db: Path, server: ServerProcess, client: Stubs) -> None:
        self.db = db
        self.server = server
        self.client = client
        self.pipeline = Pipeline(client, str(uuid.uuid4()))
        self.refusals: list[Refusal] = []

    async def overwrite(self, source: Path) -> None:
        # By a process of its own: two SQLite libraries in one would drop each other's locks.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SQLITE_BACKUP, source, self.db
        )
        assert await process.wait() == 0

    async def list_datasets(self) -> list[str]:
        listed = await self.client.status.ListDatasets(ss.ListDatasetsRequest())
        return sorted(dataset.dataset_id for dataset in listed.datasets)

    async def list_batches(self) -> set[str]:
        listed = await self.client.status.ListBatches(ss.ListBatchesRequest())
        return {f"{batch.dataset_id}/{batch.batch_id}" for batch in listed.batches}

    async def try_all(self) -> bool:
        """Read and write; return whether all calls succeeded, and collect the refusals."""
        succeeded = True
        for call in (self.list_datasets, self.list_batches, self.write):
            try:
                await call()
            except aio.AioRpcError as error:
                self.refusals.append(refusal_of(error))
                succeeded = False
        return succeeded

    async def write(self) -> None:
        await Pipeline(self.client, str(uuid.uuid4())).create(1)

    async def health(self) -> int:
        async with aio.insecure_channel(self.server.grpc) as channel:
            checked = await HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            return int(checked.status)

    def log(self) -> str:
        return Path(f"{self.db}.log").read_text()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    db = tmp_path / "s.db"
    async with running(db) as server, Stubs(server.grpc) as client:
        scene = Scene(db, server, client)
        await scene.pipeline.create(3)
        assert await scene.try_all()
        yield scene


async def test_older_copy_is_migrated_while_the_server_runs(scene: Scene) -> None:
    await scene.overwrite(FILES / "main_path.sqlite")
    async with asyncio.timeout(60):
        while not await scene.try_all():
            pass
        while await scene.health() != SERVING:
            pass
    assert {refusal.reason for refusal in scene.refusals} <= {"STORE_BUSY"}
    assert set(EXPECTED["datasets"]) <= set(await scene.list_datasets())
    assert set(EXPECTED["batches"]) <= await scene.list_batches()
    assert await scene.server.stop() == 0
    assert list(inspect_file(scene.db).faults) == []
    assert "upgrading an older copy" in scene.log()
    assert "Traceback" not in scene.log()


async def test_watch_of_datasets_ends_when_an_older_copy_is_written(
    scene: Scene, tmp_path: Path
) -> None:
    """The copy does not know which datasets were removed."""
    copy = tmp_path / "copy.db"
    assert (await stagecast("backup", copy, "--db", scene.db)).code == 0
    await scene.write()
    watches = [
        scene.client.status.WatchDatasets(
            ss.WatchDatasetsRequest(dataset_ids=ids, heartbeat_interval=NEVER)
        )
        for ids in ([], [scene.pipeline.dataset_id])
    ]
    for watch in watches:
        assert (await read(watch)).complete
    await scene.overwrite(copy)
    for watch in watches:
        with pytest.raises(aio.AioRpcError) as caught:
            async with asyncio.timeout(60):
                await watch.read()
        refusal = refusal_of(caught.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "WATCH_EXPIRED")
        assert "older copy" in refusal.message


@pytest.mark.parametrize("moved_on", [0, 2, 4], ids=["behind", "at_the_same", "past"])
async def test_living_watches_get_the_history_of_a_restored_copy(
    scene: Scene, tmp_path: Path, moved_on: int
) -> None:
    copy, pipeline = tmp_path / "copy.db", scene.pipeline
    assert (await stagecast("backup", copy, "--db", scene.db)).code == 0
    async with pipeline.stream() as watch, pipeline.stream(fail_on_expired_token=True) as strict:
        for stream in (watch, strict):
            await stream.read_to_revision(5)
        await pipeline.stage(r.STAGE_PARSING, "doc-0", "doc-1")
        for stream in (watch, strict):
            await stream.read_to_revision(7)
        async with running(copy) as other, Stubs(other.grpc) as client:
            for stage in (r.STAGE_CLEANING, r.STAGE_SPLITTING)[: moved_on // 2]:
                await replace(pipeline, client=client).stage(stage, "doc-0", "doc-1")
            assert await other.stop() == 0
        await scene.overwrite(copy)
        message = await watch.read_answer()
        assert message.snapshot.reason == ss.SNAPSHOT_REASON_HISTORY_CHANGED
        assert message.revision == 5 + moved_on
        error = await strict.error()
        assert error.code() is grpc.StatusCode.OUT_OF_RANGE
        assert refusal_of(error).reason == "HISTORY_CHANGED"
        await retrying(lambda: pipeline.stage(r.STAGE_INDEXING, "doc-0"))
        message = await watch.read_transitions()
        assert [transition.revision for transition in message.transitions] == [6 + moved_on]


@pytest.mark.parametrize(
    ("make", "why"), [(foreign, "not a stagecast database"), (newer, "made by a newer release")]
)
async def test_foreign_or_newer_file_is_not_written(
    scene: Scene, tmp_path: Path, make: Callable[[Path], None], why: str
) -> None:
    other, good = tmp_path / "other.db", tmp_path / "good.db"
    make(other)
    assert (await stagecast("backup", good, "--db", scene.db)).code == 0
    await scene.overwrite(other)
    for _ in range(3):
        with pytest.raises(aio.AioRpcError) as caught:
            await scene.write()
        refusal = refusal_of(caught.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_BUSY")
        assert why in refusal.message
        assert refusal.retry_after_s
    await scene.try_all()
    assert {refusal.reason for refusal in scene.refusals} == {"STORE_BUSY"}
    async with asyncio.timeout(60):
        while await scene.health() != NOT_SERVING:
            pass
    assert _contents(scene.db) == _contents(other)
    await scene.overwrite(good)
    await retrying(lambda: scene.pipeline.stage(r.STAGE_PARSING))
    async with asyncio.timeout(60):
        while await scene.health() != SERVING:
            pass
    assert await scene.server.stop() == 0
    assert list(inspect_file(scene.db).faults) == []
    assert "Traceback" not in scene.log()


def _contents(db: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(db)) as connection:
        return list(connection.iterdump())
