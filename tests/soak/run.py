"""One run: two servers on one file, reports and watches, one fault after the other, acts beside."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from stagecast.store.sqlite import inspect_file
from stagecast.v1 import resources_pb2 as r
from tests.access import make_key
from tests.soak.acts import ACTS, Site, act
from tests.soak.restore import go_back
from tests.soak.servers import FAULTS, Anywhere, Servers
from tests.soak.tally import Tally
from tests.soak.watchers import DatasetsView, Record, Watchers
from tests.soak.work import Work, talk_nonsense
from tests.watches.pipeline import Hangups, check_all

_BATCHES = 5
_VIEWS = 3  # of all datasets
_DEADLINE_S = 1_200.0  # for one run, on a machine that does much else


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do; the same seed makes the same choices, though not the same timing."""

    seed: int
    watches: int
    rounds: int  # of work, each under one fault
    acts: int  # one begins with each round, until there were so many
    hangups: int
    documents: int = 20  # of each batch
    longest_s: float = 7.0  # of a fault
    bad_inputs: int = 30  # in each round
    kinds: tuple[str, ...] = tuple(ACTS)  # of acts


async def run(plan: Plan, db: Path) -> Tally:
    """Do what the plan says, check what everybody received, and return what was done.

    Raises:
        AssertionError: something was lost, repeated, torn or out of order.
    """
    rng = random.Random(plan.seed)
    key = await make_key(db)
    servers = Servers(db, key)
    hangups = Hangups(plan.hangups, rng, chance=min(1.0, plan.hangups / plan.watches))
    tally, began_s = Tally(), time.monotonic()
    async with asyncio.timeout(_DEADLINE_S), servers.clients() as clients:
        memory_at_start = servers.memory()
        anywhere = Anywhere(clients, rng)
        works = [_new_work(anywhere, rng) for _ in range(_BATCHES + 1)]
        site = Site(
            db=db,
            key=key,
            servers=servers,
            anywhere=anywhere,
            works=works[:_BATCHES],
            watchers=Watchers(hangups),
        )
        async with _datasets_watched(anywhere) as views:
            records = await _work_and_watch(site, plan, rng, tally)
            await _check(views, anywhere)
            records += await go_back(site, works[-1], plan.documents, rng)
            await _check(views, anywhere)
        logs = [await work.history() for work in works]
        tally.memory_mib = memory_at_start, servers.memory()
        assert await servers.stop() == [0, 0]
    for work, log in zip(works, logs, strict=True):
        work.check_log(log, work.acknowledged)
    assert list(inspect_file(db).faults) == [], "whatever was done, the file is sound"
    tally.seconds = time.monotonic() - began_s
    _count(tally, site, works, records, logs)
    return tally


def _new_work(anywhere: Anywhere, rng: random.Random) -> Work:
    dataset_id = str(UUID(int=rng.getrandbits(128)))
    return Work(anywhere, dataset_id)  # type: ignore[arg-type]  # enough of a client


@contextlib.asynccontextmanager
async def _datasets_watched(client: Any) -> AsyncIterator[list[DatasetsView]]:
    """Watch all datasets for as long as the block."""
    views = [DatasetsView() for _ in range(_VIEWS)]
    watching = [asyncio.create_task(view.watch(client)) for view in views]
    try:
        yield views
    finally:
        for task in watching:
            task.cancel()


async def _check(views: list[DatasetsView], client: Any) -> None:
    for view in views:
        await view.check(client)


async def _work_and_watch(site: Site, plan: Plan, rng: random.Random, tally: Tally) -> list[Record]:
    """Watch the batches from their beginning to their end; return what was received."""
    records: list[list[Record]] = [[] for _ in site.works]
    for work in site.works:
        await work.begin(plan.documents)
    async with asyncio.TaskGroup() as group:
        group.create_task(_drive(site, plan, rng, tally))
        for number in range(plan.watches):
            cache, work = records[number % _BATCHES], site.works[number % _BATCHES]
            cache.append(record := Record())
            group.create_task(_watch_to_the_end(site, work, record))
            if number % 20 == 0:
                await asyncio.sleep(0)  # they are opened while reports run
    for work, seen in zip(site.works, records, strict=True):
        check_all(seen, work, await work.documents())
    return [record for seen in records for record in seen]


async def _watch_to_the_end(site: Site, work: Work, record: Record) -> None:
    reported = await site.watchers.watch(work, record)
    assert not reported, f"the watch of a batch that goes on has ended: {reported}"


async def _drive(site: Site, plan: Plan, rng: random.Random, tally: Tally) -> None:
    """Work round after round, each under a fault; end the batches when all acts have ended."""
    faults, acts = (
        _choose(FAULTS, plan.rounds, rng),
        _choose(plan.kinds, min(plan.acts, plan.rounds), rng),
    )
    async with asyncio.TaskGroup() as acting:
        for number, fault in enumerate(faults):
            if number < len(acts):
                acting.create_task(act(site, acts[number]))
            seconds = rng.uniform(plan.longest_s / 10, plan.longest_s)
            async with asyncio.TaskGroup() as group:
                group.create_task(site.servers.suffer(fault, rng.randrange(2), seconds))
                for work in site.works:
                    group.create_task(work.round(number, random.Random(rng.random())))
                address, ownrng = rng.choice(site.servers.addresses), random.Random(rng.random())
                talking = group.create_task(
                    talk_nonsense(address, site.key, plan.bad_inputs, ownrng)
                )
            tally.bad_inputs.update(talking.result())
    for work in site.works:
        await work.seal()
    tally.faults, tally.acts = Counter(faults), Counter(acts)


def _choose(kinds: Iterable[str], number: int, rng: random.Random) -> list[str]:
    """Return so many of the kinds, each as often as the others."""
    chosen: list[str] = []
    known = list(kinds)
    while len(chosen) < number:
        chosen += rng.sample(known, len(known))
    return chosen[:number]


def _count(
    tally: Tally,
    site: Site,
    works: list[Work],
    records: list[Record],
    logs: list[list[r.Transition]],
) -> None:
    """Say how much was done."""
    watchers = site.watchers
    kinds = Counter(transition.kind for log in logs for transition in log)
    tally.at_once = watchers.limit
    tally.done.update(
        {
            "runs": 1,
            "batches": len(works),
            "watches": len(records),
            "reports acknowledged": sum(len(work.acknowledged) for work in works),
            "transitions received": sum(len(record.transitions) for record in records),
            "documents seen to stall": kinds[r.TRANSITION_KIND_STALLED],
            "documents seen to recover": kinds[r.TRANSITION_KIND_RECOVERED],
            "clients hung up": watchers.hangups.done,
            "streams broken": watchers.breaks,
            "watches ended by DRAINING with their token": watchers.drained,
            "readers ended by SLOW_READER": watchers.reported["SLOW_READER"],
            "files restored from a copy under watches": 1,
        }
    )
    assert watchers.drained >= tally.faults["SIGTERM"]
