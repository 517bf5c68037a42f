"""Whoever sees some datasets only is told of the others what is told of none."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from stagecast.store import Reading, SeenStore, Writing, see
from stagecast.store.sight import _Seen, _SeenWriting
from stagecast.store.sqlite import SqliteStore
from tests.builders import BATCH_ID, DATASET_ID, create
from tests.clock import Clock
from tests.store.deletion import OTHER_DATASET_ID
from tests.store.test_checking import opened

# Parameters by which a method of a store is told of a dataset that nobody was shown yet.
NAMES_A_DATASET = {"dataset_id", "dataset_ids", "names"}
THIRD_DATASET_ID = "3d813cbb-47fb-42ba-91df-831e1593ac29"


def methods(protocol: type) -> dict[str, Callable[..., Any]]:
    return {
        name: member
        for name, member in inspect.getmembers(protocol, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("protocol", "seen"), [(Reading, _Seen), (Writing, _SeenWriting)])
def test_every_method_that_names_a_dataset_looks_whether_it_is_in_sight(
    protocol: type, seen: type
) -> None:
    naming = {
        name
        for name, method in methods(protocol).items()
        if NAMES_A_DATASET & inspect.signature(method).parameters.keys()
    }
    assert naming
    assert naming <= methods(seen).keys()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    """Three datasets, whose batches were made in turns."""
    async with opened(tmp_path / "s.db", clock) as store:
        for batch_id in (BATCH_ID, "later"):
            for dataset_id in (DATASET_ID, THIRD_DATASET_ID, OTHER_DATASET_ID):
                await create(store, batch_id, dataset_id=dataset_id)
        yield store


def everything(tx: Reading) -> list[Any]:
    """Return whatever a view tells of a dataset, asked in every way."""
    name = (DATASET_ID, BATCH_ID)
    news = [tx.find_dataset_news(asked, after_serial=-1) for asked in (None, [DATASET_ID])]
    return [
        tx.find_dataset(DATASET_ID),
        tx.find_batch(*name),
        *tx.find_heads([name]),
        *tx.iterate_datasets(None),
        *tx.iterate_datasets([DATASET_ID]),
        *(changed for one in news for changed in one.changed),
        *tx.iterate_batches(None),
        *tx.iterate_batches(DATASET_ID),
    ]


async def test_who_sees_nothing_is_told_of_nothing(store: SqliteStore) -> None:
    nothing: frozenset[str] = frozenset()
    whole = await store.read(lambda tx: everything(see(tx, None)))
    assert len(whole) == 1 + 1 + 1 + 3 + 1 + 3 + 1 + 6 + 2
    for told in (
        await store.read(lambda tx: everything(see(tx, nothing))),
        await SeenStore(store, nothing).read(everything),
        await SeenStore(store, nothing).write(everything),
    ):
        assert told == [None, None]


async def test_batches_of_several_datasets_come_newest_first(store: SqliteStore) -> None:
    sight = frozenset({DATASET_ID, OTHER_DATASET_ID})
    found = await SeenStore(store, sight).read(lambda tx: list(tx.iterate_batches(None)))
    assert [(batch.dataset_id, batch.batch_id) for batch in found] == [
        (OTHER_DATASET_ID, "later"),
        (DATASET_ID, "later"),
        (OTHER_DATASET_ID, BATCH_ID),
        (DATASET_ID, BATCH_ID),
    ]
