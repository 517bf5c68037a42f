"""The end of a run: the file is restored from a copy, and newer changes are lost."""

from __future__ import annotations

import asyncio
import random

from tests.conditions import until
from tests.soak.actions import Site
from tests.soak.watchers import Record
from tests.soak.work import Work
from tests.watches.pipeline import check_all

_WATCHERS = 20
_WITHIN_S = 120.0


async def restore_copy(site: Site, work: Work, documents: int, rng: random.Random) -> list[Record]:
    """Restore the file under watches, which get a new snapshot; return what they received."""
    copy = site.db.with_name("restored.db")
    await work.begin(documents)
    records = [Record() for _ in range(_WATCHERS)]
    async with asyncio.timeout(_WITHIN_S), asyncio.TaskGroup() as group:
        watching = [group.create_task(site.watchers.watch(work, record)) for record in records]
        await work.round(0, rng)
        copied = list(work.acknowledged), list(work.calls)
        await site.servers.back_up(copy)
        await work.round(1, rng)  # the copy does not have these changes
        lost = work.acknowledged[-1][0]
        await until(lambda: all(record.revision >= lost for record in records))
        await site.servers.restore(copy)
        work.acknowledged, work.calls = copied
        await work.round(2, rng)
        await work.seal()
    assert {task.result() for task in watching} == {""}
    check_all(records, work, await work.documents(), snapshots=2)
    assert all(record.reasons == ["INITIAL", "HISTORY_CHANGED"] for record in records)
    return records
