"""Deletions whose caller was cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from sqlite_utils.utils import sqlite3

from stagecast.model import ALL
from stagecast.service.controls import Controls
from stagecast.store.sqlite import SqliteStore
from tests.builders import BATCH_ID, DATASET_ID, ENCODER, create
from tests.clock import Clock
from tests.conditions import until


@pytest.mark.parametrize("whole_dataset", [False, True])
async def test_rows_are_swept_after_a_deletion_whose_caller_was_cancelled(
    tmp_path: Path, clock: Clock, whole_dataset: bool
) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(
        path, clock=clock, encoder=ENCODER, on_commit=lambda _: None, on_foreign_commit=lambda: None
    )
    controls = Controls(store)
    sweeping = asyncio.create_task(controls.sweep())
    await asyncio.sleep(0)  # its first run is over before the batch is created
    await create(store, documents=3)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        deleting = asyncio.create_task(
            controls.delete_dataset(DATASET_ID, visible=ALL)
            if whole_dataset
            else controls.delete_batch(DATASET_ID, BATCH_ID, visible=ALL)
        )
        await asyncio.sleep(0)
        await until(lambda: not len(store._writer._calls))  # begun, and waits for the lock
        deleting.cancel()
        await asyncio.wait((deleting,))
        other.execute("ROLLBACK")
        rows = "SELECT count(*) FROM documents"
        await until(lambda: other.execute(rows).fetchone() == (0,))
    sweeping.cancel()
    await store.close()
