"""Clients in Node.js: Connect's own, and `EventSource` as browsers have it."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from pathlib import Path

import pytest

from stagecast.app import App
from stagecast.client import Stubs
from tests.conditions import until
from tests.event_source import ServerEvent
from tests.process import ROOT, ServerProcess, environment, free_address
from tests.rpc.http.test_events import path_of
from tests.test_readme import examples, pattern_of
from tests.validator import WatchRecord
from tests.watches.pipeline import Pipeline, check_all

pytestmark = [pytest.mark.node, pytest.mark.slow]

_GUIDE = ROOT / ".github/docs/guide.md"
_KILLS = 20


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the protos, as the guide says."""
    assert shutil.which("npm"), "Node.js is missing: apt-get install nodejs npm"
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(ROOT / "proto", folder / "proto")
    return folder


async def run(text: str, cwd: Path) -> str:
    """Run a shell script and return its output."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euc", text),
        cwd=cwd,
        env=environment(npm_config_cache=str(cwd / "cache")),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(300):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_typescript_of_the_guide_reports_and_watches(server: App, project: Path) -> None:
    for language, text, expected in examples(_GUIDE, of_node=True):
        real = text.replace("127.0.0.1:8000", server.http_address)
        if language == "ts":
            (project / "watch.ts").write_text(real)
        else:
            output = await run(real, project)
            assert pattern_of(expected).search(output), f"{text}\nprinted\n{output}"


class NodeSource:
    """An `EventSource` in a process of Node.js.

    Attributes:
        connections: how often it has connected.
        closed_by: the HTTP status that has closed it, as text.
    """

    def __init__(self, process: asyncio.subprocess.Process, record: WatchRecord) -> None:
        self._process = process
        self._record = record
        self.connections = 0
        self.closed_by = ""

    @classmethod
    async def open(cls, url: str, record: WatchRecord, project: Path) -> NodeSource:
        """Start the process."""
        shutil.copy(Path(__file__).with_name("event_source.mjs"), project)
        process = await asyncio.create_subprocess_exec(
            *("node", "event_source.mjs", url),
            cwd=project,
            env=environment(),
            stdout=asyncio.subprocess.PIPE,
            limit=64 << 20,
        )
        return cls(process, record)

    async def run(self) -> None:
        """Record what it receives until it is closed."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            event = ServerEvent(**json.loads(line))
            if event.kind == "open":
                if self.connections:
                    self._record.hang_up()
                self.connections += 1
            elif event.kind == "message":
                self._record.receive(event.message())
            elif event.kind == "closed":
                self.closed_by = event.data
        assert await self._process.wait() == 0


async def test_event_source_of_node_misses_nothing_through_twenty_kills(
    tmp_path: Path, dataset_id: str, project: Path
) -> None:
    await run("npm install --silent --no-audit --no-fund eventsource", project)
    db, grpc, http = tmp_path / "stagecast.db", free_address(), free_address()
    server = await ServerProcess.start(db, grpc=grpc, http=http)
    try:
        async with Stubs(grpc) as client, asyncio.timeout(900):
            pipeline, received = Pipeline(client, dataset_id), WatchRecord()
            await pipeline.create(300, more_documents_follow=True)
            source = await NodeSource.open(f"http://{http}{path_of(pipeline)}", received, project)
            async with asyncio.TaskGroup() as group:
                group.create_task(source.run())
                await until(lambda: source.connections > 0)  # Node.js takes its time to start
                group.create_task(pipeline.run(random.Random(5)))
                for kill in range(1, _KILLS + 1):
                    await pipeline.until_acknowledged(50 * kill)
                    await server.kill()
                    server = await ServerProcess.start(db, grpc=grpc, http=http)
            check_all([received], pipeline, await pipeline.documents())
            assert source.closed_by == "204"
            assert source.connections > 1
        assert await server.stop() == 0
    finally:
        if server.process.returncode is None:
            await server.kill()
