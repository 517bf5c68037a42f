"""One run: two servers on one file, reports at full speed, watches, and SIGKILL in between."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from stagecast.client import Client
from tests.process import ServerProcess, free_address
from tests.validator import WatchRecord
from tests.watches.pipeline import Hangups, Pipeline, check_all, watch_with_hangups

_BATCHES = 5
_DEADLINE_S = 600.0  # for one run, on a machine that does much else


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do; the same seed makes the same choices, though not the same timing."""

    seed: int
    watches: int
    kills: int
    hangups: int
    documents: int = 60  # of each batch


@dataclass(frozen=True)
class Tally:
    """What was done."""

    watches: int = 0
    reports: int = 0
    transitions: int = 0
    kills: int = 0
    hangups: int = 0
    breaks: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        return (
            f"{self.watches} watches, {self.reports} reports acknowledged, "
            f"{self.transitions} transitions received, {self.kills} SIGKILLs, "
            f"{self.hangups} hang-ups, {self.breaks} streams broken"
        )


class Anywhere:
    """A client of several servers on one file: each call goes to any of them."""

    def __init__(self, clients: Sequence[Client], rng: random.Random) -> None:
        self._clients = clients
        self._rng = rng

    @property
    def reports(self) -> Any:
        return self._rng.choice(self._clients).reports

    @property
    def status(self) -> Any:
        return self._rng.choice(self._clients).status


class Servers:
    """Two servers on one file that are killed and come back under their addresses."""

    def __init__(self, db: Path) -> None:
        self._db = db
        self._addresses = [(free_address(), free_address()) for _ in range(2)]
        self._running: list[ServerProcess] = []
        self.kills = 0

    @contextlib.asynccontextmanager
    async def clients(self) -> AsyncIterator[list[Client]]:
        """Run them for as long as the block, and give a client of each."""
        try:
            self._running = [await self._start(number) for number in range(2)]
            async with contextlib.AsyncExitStack() as stack:
                yield [
                    await stack.enter_async_context(Client(server.grpc)) for server in self._running
                ]
        finally:
            for server in self._running:
                if server.process.returncode is None:
                    await server.kill()

    async def kill(self, number: int) -> None:
        """Kill one and start it again."""
        await self._running[number].kill()
        self.kills += 1
        self._running[number] = await self._start(number)

    async def stop(self) -> list[int]:
        """End both cleanly and return their exit codes."""
        return [await server.stop() for server in self._running]

    async def _start(self, number: int) -> ServerProcess:
        grpc_address, http_address = self._addresses[number]
        return await ServerProcess.start(self._db, grpc=grpc_address, http=http_address)


async def run(plan: Plan, db: Path) -> Tally:
    """Do what the plan says, check what everybody received, and return what was done.

    Raises:
        AssertionError: something was lost, repeated, torn or out of order.
    """
    rng = random.Random(plan.seed)
    servers = Servers(db)
    async with asyncio.timeout(_DEADLINE_S), servers.clients() as clients:
        anywhere = Anywhere(clients, rng)
        pipelines = [
            Pipeline(anywhere, str(UUID(int=rng.getrandbits(128))))  # type: ignore[arg-type]  # enough of a client
            for _ in range(_BATCHES)
        ]
        for pipeline in pipelines:
            await pipeline.create(plan.documents, more_documents_follow=True)
        records: list[list[WatchRecord]] = [[] for _ in pipelines]
        hangups = Hangups(plan.hangups, rng, chance=min(1.0, plan.hangups / plan.watches))
        async with asyncio.TaskGroup() as group:
            for pipeline in pipelines:
                group.create_task(pipeline.run(rng))
            group.create_task(_kill(servers, pipelines, plan, rng))
            for number in range(plan.watches):
                kept, pipeline = records[number % _BATCHES], pipelines[number % _BATCHES]
                kept.append(record := WatchRecord())
                group.create_task(watch_with_hangups(pipeline, record, hangups))
                if number % 20 == 0:
                    await asyncio.sleep(0)  # they are opened while reports run
        for pipeline, seen in zip(pipelines, records, strict=True):
            check_all(seen, pipeline, await pipeline.documents())
        assert await servers.stop() == [0, 0]
    everybody = [record for seen in records for record in seen]
    return Tally(
        watches=len(everybody),
        reports=sum(len(pipeline.acknowledged) for pipeline in pipelines),
        transitions=sum(len(record.transitions) for record in everybody),
        kills=servers.kills,
        hangups=hangups.done,
        breaks=sum(record.hangups for record in everybody) - hangups.done,
    )


async def _kill(
    servers: Servers, pipelines: Sequence[Pipeline], plan: Plan, rng: random.Random
) -> None:
    """Kill either server again and again, evenly over all that is reported."""
    expected = len(pipelines) * plan.documents * 5  # stages
    for number in range(1, plan.kills + 1):
        pipeline = rng.choice(pipelines)
        share = expected * number // (plan.kills + 1) // len(pipelines)
        await pipeline.until_acknowledged(share)
        await servers.kill(rng.randrange(2))
