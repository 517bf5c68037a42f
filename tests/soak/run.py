"""One run: two servers on one file, reports and watches, and one fault after the other."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from stagecast.store.sqlite import inspect_file
from tests.access import make_key
from tests.soak.servers import FAULTS, Anywhere, Servers
from tests.soak.tally import Tally
from tests.soak.work import Work, talk_nonsense
from tests.validator import WatchRecord
from tests.watches.pipeline import Hangups, check_all, watch_with_hangups

_BATCHES = 5
_DEADLINE_S = 1_200.0  # for one run, on a machine that does much else


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do; the same seed makes the same choices, though not the same timing."""

    seed: int
    watches: int
    rounds: int  # of work, each under one fault
    hangups: int
    documents: int = 20  # of each batch
    longest_s: float = 7.0  # of a fault
    bad_inputs: int = 30  # in each round


async def run(plan: Plan, db: Path) -> Tally:
    """Do what the plan says, check what everybody received, and return what was done.

    Raises:
        AssertionError: something was lost, repeated, torn or out of order.
    """
    rng = random.Random(plan.seed)
    key = await make_key(db)
    servers = Servers(db, key)
    async with asyncio.timeout(_DEADLINE_S), servers.clients() as clients:
        memory_at_start = servers.memory()
        anywhere = Anywhere(clients, rng)
        works = [
            Work(anywhere, str(UUID(int=rng.getrandbits(128))))  # type: ignore[arg-type]  # enough of a client
            for _ in range(_BATCHES)
        ]
        for work in works:
            await work.begin(plan.documents)
        records: list[list[WatchRecord]] = [[] for _ in works]
        hangups = Hangups(plan.hangups, rng, chance=min(1.0, plan.hangups / plan.watches))
        async with asyncio.TaskGroup() as group:
            driving = group.create_task(_drive(servers, key, works, plan, rng))
            for number in range(plan.watches):
                kept, work = records[number % _BATCHES], works[number % _BATCHES]
                kept.append(record := WatchRecord())
                group.create_task(watch_with_hangups(work, record, hangups))
                if number % 20 == 0:
                    await asyncio.sleep(0)  # they are opened while reports run
        for work, seen in zip(works, records, strict=True):
            check_all(seen, work, await work.documents())
            await work.check_history()
        memory_at_end = servers.memory()
        assert await servers.stop() == [0, 0]
        assert list(inspect_file(db).faults) == [], "whatever was killed, the file is sound"
    everybody = [record for seen in records for record in seen]
    return Tally(
        batches=len(works),
        watches=len(everybody),
        reports=sum(len(work.acknowledged) for work in works),
        transitions=sum(len(record.transitions) for record in everybody),
        bad_inputs=plan.rounds * plan.bad_inputs,
        hangups=hangups.done,
        breaks=sum(record.hangups for record in everybody) - hangups.done,
        faults=driving.result(),
        memory_mib=(memory_at_start, memory_at_end),
    )


async def _drive(
    servers: Servers, key: str, works: Sequence[Work], plan: Plan, rng: random.Random
) -> Counter[str]:
    """Work round after round, each under a fault; end the batches; return what the faults were."""
    faults = _choose(plan.rounds, rng)
    for number, fault in enumerate(faults):
        seconds = rng.uniform(plan.longest_s / 10, plan.longest_s)
        async with asyncio.TaskGroup() as group:
            group.create_task(servers.suffer(fault, rng.randrange(2), seconds))
            for work in works:
                group.create_task(work.round(number, random.Random(rng.random())))
            address = rng.choice(servers.addresses)
            ownrng = random.Random(rng.random())
            group.create_task(talk_nonsense(address, key, plan.bad_inputs, ownrng))
    for work in works:
        await work.seal()
    return Counter(faults)


def _choose(rounds: int, rng: random.Random) -> list[str]:
    """Return a fault for each round, every kind as often as the others."""
    faults: list[str] = []
    while len(faults) < rounds:
        faults += rng.sample(FAULTS, len(FAULTS))
    return faults[:rounds]
