"""Watchers detect a file that was restored from an older copy, by any means."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from stagecast.client import Stubs
from stagecast.store.sqlite import inspect_file
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.cli.command import stagecast
from tests.conditions import until
from tests.process import ServerProcess, free_address, running
from tests.validator import WatchRecord
from tests.watches.pipeline import Pipeline

pytestmark = pytest.mark.slow

SQLITE_BACKUP = """
import sqlite3, sys
source, target = map(sqlite3.connect, sys.argv[1:])
source.backup(target)
target.close()
"""

MEANS = ["stopped_and_copied", "stagecast_backup", "sqlite_backup"]


@dataclasses.dataclass
class Site:
    """A server that is stopped, restored and started again at its address, and its watcher."""

    db: Path
    address: str
    server: ServerProcess
    pipeline: Pipeline
    record: WatchRecord
    reasons: list[s.SnapshotReason.ValueType]
    watching: asyncio.Task[None]

    @property
    def copy(self) -> Path:
        return self.db.with_name("copy.db")

    async def start(self) -> None:
        self.server = await ServerProcess.start(self.db, grpc=self.address)

    async def back_up(self, means: str) -> None:
        """Copy the file; later writes are lost by `restore`."""
        if means == "stopped_and_copied":
            assert await self.server.stop() == 0
            shutil.copy(self.db, self.copy)
            await self.start()
        elif means == "stagecast_backup":
            assert (await stagecast("backup", self.copy, "--db", self.db)).code == 0
        else:  # by a process of its own: two SQLite libraries in one would drop each other's locks
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", SQLITE_BACKUP, self.db, self.copy
            )
            assert await process.wait() == 0

    async def restore(self) -> None:
        """Kill the server and replace its file by the copy."""
        await self.server.kill()
        for suffix in ("-wal", "-shm"):
            Path(f"{self.db}{suffix}").unlink(missing_ok=True)
        shutil.copy(self.copy, self.db)

    @asynccontextmanager
    async def elsewhere(self) -> AsyncIterator[Pipeline]:
        """Serve the file at an address unknown to the watcher."""
        async with running(self.db) as server, Stubs(server.grpc) as client:
            yield dataclasses.replace(self.pipeline, client=client)
            assert await server.stop() == 0

    async def until_revision(self, revision: int) -> None:
        await until(lambda: self.record.revision == revision or self.watching.done())
        assert self.record.revision == revision


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A batch of two documents, watched by a client that reconnects, at revision 4."""
    db, address = tmp_path / "s.db", free_address()
    server = await ServerProcess.start(db, grpc=address)
    async with Stubs(address) as client:
        pipeline = Pipeline(client, str(uuid.uuid4()))
        await pipeline.create(2)
        record, reasons = WatchRecord(), []

        async def watch() -> None:
            async for message in client.watch(pipeline.watch_request()):
                if message.HasField("snapshot"):
                    reasons.append(message.snapshot.reason)
                record.receive(message)

        watching = asyncio.create_task(watch())
        site = Site(db, address, server, pipeline, record, reasons, watching)
        try:
            await site.until_revision(4)
            yield site
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            if site.server.process.returncode is None:
                await site.server.kill()


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("moved_on", [0, 2, 4], ids=["behind", "at_the_same", "past"])
async def test_watcher_gets_the_restored_history(site: Site, means: str, moved_on: int) -> None:
    await site.pipeline.stage(r.STAGE_PARSING)
    await site.back_up(means)
    await site.pipeline.stage(r.STAGE_CLEANING)
    await site.until_revision(8)
    await site.restore()
    if moved_on:
        async with site.elsewhere() as pipeline:
            for stage in (r.STAGE_SPLITTING, r.STAGE_INDEXING)[: moved_on // 2]:
                await pipeline.stage(stage)
    await site.start()
    await until(lambda: site.record.snapshots == 2)
    assert site.reasons == [s.SNAPSHOT_REASON_INITIAL, s.SNAPSHOT_REASON_HISTORY_CHANGED]
    assert site.record.revision == 6 + moved_on
    assert site.record.documents == await site.pipeline.documents()
    await site.pipeline.stage(r.STAGE_COMPLETED)
    async with asyncio.timeout(600):
        await site.watching
    assert sorted(site.record.transitions) == [7 + moved_on, 8 + moved_on]
    assert site.record.documents == await site.pipeline.documents()
    assert list(inspect_file(site.db).faults) == []


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("moved_on", [0, 1, 3], ids=["behind", "at_the_same", "past"])
async def test_watcher_gets_the_restored_counters(site: Site, means: str, moved_on: int) -> None:
    """The histories have the same transitions: only the server epochs of the counters differ."""
    await site.pipeline.count("doc-0", 1, 100)
    await site.back_up(means)
    await site.pipeline.count("doc-0", 50, 100)
    await until(lambda: site.record.documents["doc-0"].progress.completed_segments == 50)
    await site.restore()
    if moved_on:
        async with site.elsewhere() as pipeline:
            for number in range(moved_on):
                await pipeline.count("doc-1", 7 + number, 100)
    await site.start()
    await until(lambda: site.record.snapshots == 2)
    assert site.reasons[1:] == [s.SNAPSHOT_REASON_HISTORY_CHANGED]
    assert site.record.documents == await site.pipeline.documents()
    assert site.record.documents["doc-0"].progress.completed_segments == 1


async def test_up_to_date_copy_changes_nothing_for_watchers(site: Site) -> None:
    await site.pipeline.stage(r.STAGE_PARSING)
    await site.pipeline.count("doc-0", 1, 100)
    await site.until_revision(6)
    await until(lambda: bool(site.record.documents["doc-0"].progress.completed_segments))
    await site.back_up("stagecast_backup")
    await site.restore()
    await site.start()
    await site.pipeline.stage(r.STAGE_COMPLETED)
    async with asyncio.timeout(600):
        await site.watching
    assert site.reasons == [s.SNAPSHOT_REASON_INITIAL]
    assert sorted(site.record.transitions) == [5, 6, 7, 8]
