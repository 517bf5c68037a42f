"""One run: two servers on one file under load and faults, while users and operators act."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from stagecast.store.sqlite import inspect_file
from stagecast.v1 import resources_pb2 as r
from tests.access import make_key
from tests.soak.actions import ACTIONS, Site, perform
from tests.soak.event_watchers import EventWatchers
from tests.soak.restore import restore_copy
from tests.soak.servers import FAULTS, Anywhere, Servers
from tests.soak.tally import Tally
from tests.soak.watchers import DatasetsView, Record, Watchers
from tests.soak.work import Work, send_bad_requests
from tests.watches.pipeline import Hangups, check_all

_BATCHES = 5
_VIEWS = 3  # of all datasets
_DEADLINE_S = 1_200.0  # for one run, on a busy machine


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run does; the same seed makes the same choices, but not the same timing."""

    seed: int
    watches: int
    rounds: int  # of work, each under one fault
    actions: int  # one starts with each round, until there were so many
    hangups: int
    documents: int = 20  # of each batch
    max_fault_s: float = 7.0
    bad_inputs: int = 30  # in each round
    kinds: tuple[str, ...] = tuple(ACTIONS)  # of actions


async def run(plan: Plan, db: Path) -> Tally:
    """Execute a plan, check what every watcher received, and return the tally.

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
            watchers=(watchers := Watchers(hangups)),
            event_watchers=EventWatchers(
                servers.http_addresses, key, watchers, random.Random(rng.random())
            ),
        )
        async with _datasets_watched(anywhere) as views:
            records = await _work_and_watch(site, plan, rng, tally)
            await _check(views, anywhere)
            records += await restore_copy(site, works[-1], plan.documents, rng)
            await _check(views, anywhere)
        logs = [await work.history() for work in works]
        tally.memory_mib = memory_at_start, servers.memory()
        assert await servers.stop() == [0, 0]
    for work, log in zip(works, logs, strict=True):
        work.check_log(log, work.acknowledged)
    assert list(inspect_file(db).faults) == [], "the file is sound after all faults"
    tally.seconds = time.monotonic() - began_s
    _count(tally, site, works, records, logs)
    return tally


def _new_work(anywhere: Anywhere, rng: random.Random) -> Work:
    dataset_id = str(UUID(int=rng.getrandbits(128)))
    return Work(anywhere, dataset_id)  # type: ignore[arg-type]  # has the parts of a client in use


@contextlib.asynccontextmanager
async def _datasets_watched(client: Any) -> AsyncIterator[list[DatasetsView]]:
    """Watch all datasets during the block."""
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
    """Watch the batches from start to end; return what was received."""
    records: list[list[Record]] = [[] for _ in site.works]
    for work in site.works:
        await work.begin(plan.documents)
    async with asyncio.TaskGroup() as group:
        group.create_task(_drive(site, plan, rng, tally))
        for number in range(plan.watches):
            work = site.works[number % _BATCHES]
            records[number % _BATCHES].append(record := Record())
            one_of_http = number % _BATCHES == number // _BATCHES % _BATCHES
            watch = site.event_watchers.watch if one_of_http else partial(_watch_to_the_end, site)
            group.create_task(watch(work, record))
            if number % 20 == 0:
                await asyncio.sleep(0)  # so that they are opened while reports run
    for work, received in zip(site.works, records, strict=True):
        check_all(received, work, await work.documents())
    return [record for received in records for record in received]


async def _watch_to_the_end(site: Site, work: Work, record: Record) -> None:
    reason = await site.watchers.watch(work, record)
    assert not reason, f"the watch of an open batch has ended: {reason}"


async def _drive(site: Site, plan: Plan, rng: random.Random, tally: Tally) -> None:
    """Work in rounds, each under a fault; end the batches when all actions have ended."""
    faults, actions = (
        _choose(FAULTS, plan.rounds, rng),
        _choose(plan.kinds, min(plan.actions, plan.rounds), rng),
    )
    async with asyncio.TaskGroup() as acting:
        for number, fault in enumerate(faults):
            if number < len(actions):
                acting.create_task(perform(site, actions[number]))
            seconds = rng.uniform(plan.max_fault_s / 10, plan.max_fault_s)
            async with asyncio.TaskGroup() as group:
                group.create_task(site.servers.inject(fault, rng.randrange(2), seconds))
                for work in site.works:
                    group.create_task(work.round(number, random.Random(rng.random())))
                address, own_rng = rng.choice(site.servers.addresses), random.Random(rng.random())
                sending = group.create_task(
                    send_bad_requests(address, site.key, plan.bad_inputs, own_rng)
                )
            tally.bad_inputs.update(sending.result())
    for work in site.works:
        await work.seal()
    tally.faults, tally.actions = Counter(faults), Counter(actions)


def _choose(kinds: Iterable[str], number: int, rng: random.Random) -> list[str]:
    """Return so many of the kinds in random order, all equally often."""
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
    """Add to the tally how much was done."""
    watchers = site.watchers
    kinds = Counter(transition.kind for log in logs for transition in log)
    tally.at_once = watchers.max_open
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
            "readers ended by SLOW_READER": watchers.errors["SLOW_READER"],
            "streams over HTTP": site.event_watchers.connections,
            "readers over HTTP ended by SLOW_READER": site.event_watchers.slow,
            "files restored from a copy under watches": 1,
        }
    )
    assert watchers.drained >= tally.faults["SIGTERM"]
