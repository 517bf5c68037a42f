"""An unusable store: reported in one line at the start, survived while serving.

Real servers, real files; the faults are injected from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

import grpc
import httpx
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health_pb2
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from stagecast.client import Stubs
from stagecast.store.sqlite.connection import open_writer
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.faults import (
    damaged,
    full_disk,
    locked,
    moved_away,
    obeying_modes,
    overwrite,
    replaced,
    without_log,
)
from tests.grpc_calls import HealthStub, read
from tests.process import ServerProcess, command_line, environment, running
from tests.validator import WatchRecord
from tests.watches.pipeline import Pipeline, retrying

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the faults need Linux")

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


# At the start.


def read_only_file(db: Path) -> None:
    open_writer(db).close()
    db.chmod(0o444)


def file_in_a_read_only_directory(db: Path) -> None:
    open_writer(db).close()
    db.parent.chmod(0o555)


def no_file_in_a_read_only_directory(db: Path) -> None:
    db.parent.chmod(0o555)


def unreadable_file(db: Path) -> None:
    open_writer(db).close()
    db.chmod(0)


def unreadable_directory(db: Path) -> None:
    open_writer(db).close()
    db.parent.chmod(0)


def text(db: Path) -> None:
    db.write_text("This is no database at all, but long enough to be one. " * 100)


def foreign(db: Path) -> None:
    with contextlib.closing(sqlite3.connect(db)) as other:
        other.execute("CREATE TABLE notes (text)")


def newer(db: Path) -> None:
    open_writer(db).close()
    with contextlib.closing(Database(db)) as other:
        other.table("_sqlite_migrations").insert(
            {"migration_set": "stagecast", "name": "fold_space", "applied_at": "2030-01-01"}
        )
        other.execute("PRAGMA user_version = 99")  # this release must not write


def cut_short(db: Path) -> None:
    open_writer(db).close()
    with db.open("r+b") as file:
        file.truncate(db.stat().st_size // 2)


def scribbled_on(db: Path) -> None:
    open_writer(db).close()
    overwrite(db, db.read_bytes()[:200] + b"\xa5" * (db.stat().st_size - 200))


def scribbled_on_where_the_keys_are(db: Path) -> None:
    open_writer(db).close()
    with contextlib.closing(sqlite3.connect(db)) as other:
        [(page,)] = other.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'api_keys'")
    content = bytearray(db.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    overwrite(db, bytes(content))


@contextlib.contextmanager
def held(db: Path) -> Iterator[None]:
    open_writer(db).close()
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (read_only_file, "may not be written"),
        (file_in_a_read_only_directory, "may not be written"),
        (no_file_in_a_read_only_directory, "may not be written"),
        (unreadable_file, "may not be read"),
        (unreadable_directory, "may not be read"),
        (text, "not a database"),
        (foreign, "not a stagecast database"),
        (newer, "newer release"),
        (cut_short, "damaged"),
        (scribbled_on, "damaged"),
        (scribbled_on_where_the_keys_are, "malformed"),
        (held, "locked"),
    ],
)
async def test_unusable_file_is_reported_in_one_line_at_the_start(
    tmp_path: Path, make: Callable[[Path], AbstractContextManager[None] | None], why: str
) -> None:
    db = tmp_path / "store" / "s.db"
    db.parent.mkdir()
    try:
        with make(db) or contextlib.nullcontext():
            code, out, err = await _start(db)
    finally:
        db.parent.chmod(0o755)
    assert (code, out) == (1, "")
    [line] = err.splitlines()
    assert line.startswith("Error: ")
    assert str(db) in line
    assert why in line


async def _start(db: Path) -> tuple[int | None, str, str]:
    """Start a server that obeys file modes, and return its exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *obeying_modes(command_line(db)),
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(240):
            out, err = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.slow
@pytest.mark.parametrize("removed", [("-shm",), (), ("-shm", "-journal")])
async def test_log_left_behind_by_a_kill_is_recovered(
    tmp_path: Path, dataset_id: str, removed: tuple[str, ...]
) -> None:
    db = tmp_path / "s.db"
    async with running(db) as server, Stubs(server.grpc) as client:
        pipeline = Pipeline(client, dataset_id)
        await pipeline.create(20)
        for stage in (r.STAGE_PARSING, r.STAGE_INDEXING, r.STAGE_COMPLETED):
            await pipeline.stage(stage)
        before = await pipeline.documents()
        await server.kill()
    assert Path(f"{db}-wal").stat().st_size
    for name in removed:
        Path(f"{db}{name}").unlink(missing_ok=True)
    async with running(db) as server, Stubs(server.grpc) as client:
        assert await Pipeline(client, dataset_id, pipeline.batch_id).documents() == before


# While serving.


class Scene:
    """A server with a watched batch, and its health."""

    def __init__(self, server: ServerProcess, client: Stubs, channel: aio.Channel) -> None:
        self.server = server
        self.pipeline = Pipeline(client, str(uuid4()))
        self.health = HealthStub(channel)
        self.record = WatchRecord()

    async def until(self, status: int) -> None:
        """Wait for a health status."""
        watch = self.health.Watch(health_pb2.HealthCheckRequest())
        async with asyncio.timeout(240):
            async for response in watch:
                if response.status == status:
                    break
        watch.cancel()

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(timeout=60) as http:
            return await http.get(f"http://{self.server.http}{path}")

    async def poll_dify(self) -> httpx.Response:
        name = (self.pipeline.dataset_id, self.pipeline.batch_id)
        return await self.get("/v1/datasets/{}/documents/{}/indexing-status".format(*name))

    async def poll_cognee(self) -> httpx.Response:
        return await self.get(f"/api/v1/datasets/status?dataset={self.pipeline.dataset_id}")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


@pytest.fixture
async def scene(db: Path) -> AsyncIterator[Scene]:
    async with (
        running(db) as server,
        Stubs(server.grpc) as client,
        aio.insecure_channel(server.grpc) as channel,
    ):
        scene = Scene(server, client, channel)
        await scene.pipeline.create(3)
        # Enough writes for a WAL larger than the log file of the server, which a full disk must
        # not hit.
        for stage in (r.STAGE_PARSING, r.STAGE_CLEANING):
            for document_id in scene.pipeline.document_ids:
                await scene.pipeline.stage(stage, document_id)
        yield scene


Fault = Callable[[ServerProcess, Path], AbstractContextManager[None]]
FAULTS = [full_disk, locked, moved_away, replaced, without_log, damaged]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
async def test_fault_is_reported_everywhere_until_it_is_gone(
    scene: Scene, db: Path, fault: Fault
) -> None:
    pipeline = scene.pipeline
    heartbeat = Duration(seconds=1)
    async with pipeline.stream(heartbeat_interval=heartbeat) as stream:
        scene.record.receive(await stream.read())
        with fault(scene.server, db):
            with pytest.raises(aio.AioRpcError) as caught:
                await pipeline.stage(r.STAGE_SPLITTING)
            _check_busy(caught.value)
            await scene.until(NOT_SERVING)
            assert (await scene.get("/readyz")).status_code == 503
            assert (await scene.get("/healthz")).status_code == 200
            known = scene.record.revision
            for _ in range(3):
                scene.record.receive(await stream.read())
            assert scene.record.revision == known, "only committed transitions are pushed"
        await scene.until(SERVING)
        async with asyncio.timeout(240):
            # A call that met the fault may end only now, and count once more.
            while (await scene.get("/readyz")).status_code != 200:
                pass
            await retrying(lambda: pipeline.stage(r.STAGE_COMPLETED))
            while scene.record.revision != pipeline.acknowledged[-1][0]:
                scene.record.receive(await stream.read())
        assert await stream.end() is grpc.StatusCode.OK
    assert scene.record.snapshots == 1
    stored = await pipeline.documents()
    assert scene.record.documents == stored
    assert await scene.server.stop() == 0
    async with running(db) as again, Stubs(again.grpc) as client:
        restarted = Pipeline(client, pipeline.dataset_id, pipeline.batch_id)
        assert await restarted.documents() == stored, "acknowledged reports are on disk"


@pytest.mark.slow
async def test_watch_of_datasets_outlives_a_fault(scene: Scene, db: Path) -> None:
    pipeline = scene.pipeline
    request = ss.WatchDatasetsRequest(heartbeat_interval=Duration(seconds=1))
    watch = pipeline.client.status.WatchDatasets(request)
    async with asyncio.timeout(240):
        assert (await read(watch)).complete
        with damaged(scene.server, db):
            await scene.until(NOT_SERVING)
            for _ in range(2):
                assert not (await read(watch)).datasets
        await retrying(lambda: pipeline.stage(r.STAGE_COMPLETED))
        while not (message := await read(watch)).datasets:
            pass
    [dataset] = message.datasets
    assert dataset.counts.succeeded == 3
    watch.cancel()


async def test_wait_outlives_a_fault(scene: Scene, db: Path) -> None:
    pipeline = scene.pipeline
    name = {"dataset_id": pipeline.dataset_id, "batch_id": pipeline.batch_id}
    request = ss.WaitBatchRequest(**name, timeout=Duration(seconds=600))
    wait = pipeline.client.status.WaitBatch(request)
    await pipeline.documents()  # the call has started
    # The damage looks like a commit of another process, so the waiting call reads again.
    with damaged(scene.server, db):
        await scene.until(NOT_SERVING)
    async with asyncio.timeout(240):
        await retrying(lambda: pipeline.stage(r.STAGE_COMPLETED))
        assert (await wait).done


async def test_damage_is_reported_on_rest_paths_in_their_own_format(scene: Scene, db: Path) -> None:
    with damaged(scene.server, db):
        async with asyncio.timeout(240):
            # A cached response stays valid until another process commits.
            while (await scene.poll_dify()).status_code == 200:
                pass
            while (await scene.poll_cognee()).status_code == 200:
                pass
        dify, cognee = await scene.poll_dify(), await scene.poll_cognee()
    assert dify.status_code == 503
    assert dify.headers["Retry-After"] == "1"
    assert dify.json() == {
        "status": 503,
        "code": "service_unavailable",
        "message": "Try again later.",
    }
    assert cognee.status_code == 500
    assert cognee.json() == {"error": "Unable to retrieve dataset statuses."}
    async with asyncio.timeout(240):
        while (await scene.poll_dify()).status_code != 200:
            pass
        while (await scene.poll_cognee()).status_code != 200:
            pass


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
async def test_server_with_a_fault_still_stops_on_request(
    scene: Scene, db: Path, fault: Fault
) -> None:
    stored = await scene.pipeline.documents()
    with fault(scene.server, db):
        with pytest.raises(aio.AioRpcError):
            await scene.pipeline.stage(r.STAGE_SPLITTING)
        assert await scene.server.stop() == 0
    async with running(db) as again, Stubs(again.grpc) as client:
        restarted = Pipeline(client, scene.pipeline.dataset_id, scene.pipeline.batch_id)
        assert await restarted.documents() == stored


def _check_busy(error: aio.AioRpcError) -> None:
    """Check that an error has the reason STORE_BUSY and a retry delay."""
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    [encoded] = [value for key, value in error.trailing_metadata() if key.endswith("details-bin")]
    status = status_pb2.Status.FromString(encoded)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    _unpack(status.details[0], info)
    _unpack(status.details[1], retry)
    assert info.reason == "STORE_BUSY"
    assert retry.retry_delay.ToMilliseconds() > 0
    details = error.details()
    assert details is not None
    assert "\n" not in details


def _unpack(
    packed: AnyMessage, into: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo
) -> None:
    assert packed.Unpack(into)
