"""Checks of copies of the file."""

from __future__ import annotations

from pathlib import Path

from stagecast.app import opened_store
from stagecast.model import ALL
from stagecast.store import ReadTransaction
from stagecast.store.sqlite import inspect_file
from stagecast.v1 import resources_pb2 as r
from tests.messages import to_transition
from tests.soak.work import Acknowledged, Work


async def check_copy(copy: Path, work: Work, acknowledged: Acknowledged) -> None:
    """Check that a copy is sound, and has the log of a batch as of one moment.

    Args:
        copy: the file.
        work: the batch.
        acknowledged: the reports acknowledged before the copy was started.
    """
    assert list(inspect_file(copy).faults) == []
    copied = await _read_log(copy, work)
    work.check_log(copied, acknowledged)
    assert copied == (await work.history())[: len(copied)]


async def _read_log(copy: Path, work: Work) -> list[r.Transition]:
    def read(tx: ReadTransaction) -> list[r.Transition]:
        batch = tx.find_batch(work.dataset_id, work.batch_id)
        assert batch is not None
        log = tx.iterate_transitions(batch, after_revision=0)
        return [to_transition(transition) for transition in log]

    async with opened_store(copy) as store:
        return await store.read(read, visible=ALL)
