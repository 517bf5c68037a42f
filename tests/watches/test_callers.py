"""A revoked caller gets no further messages, even within a snapshot."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from stagecast import wire
from stagecast.config import Config
from stagecast.errors import CredentialsInvalid
from stagecast.model import (
    ALL,
    ANONYMOUS,
    Caller,
    DatasetsMessage,
    DatasetsWatchRequest,
    Principal,
    Scope,
    Visibility,
)
from stagecast.notifier import Notifier
from stagecast.store.sqlite import SqliteStore
from stagecast.watches import BatchWatches, DatasetWatches, datasets
from tests.builders import DATASET_ID, create, watch_request
from tests.clock import Clock
from tests.store.deletion import OTHER_DATASET_ID
from tests.store.test_integrity import opened


@pytest.fixture
async def store(config: Config, clock: Clock) -> AsyncIterator[SqliteStore]:
    async with opened(config.db, clock) as store:
        yield store


async def on_begun() -> None:
    pass


class RevokedCaller:
    """A caller whose credentials are revoked after one message."""

    def __init__(self) -> None:
        self.checks = 0
        self.caller = Caller(principal=ANONYMOUS, check=self._check)

    def _check(self) -> None:
        self.checks += 1
        if self.checks > 1:
            raise CredentialsInvalid("revoked")

    async def read(self, messages: AsyncIterator[object]) -> None:
        await anext(messages)
        with pytest.raises(CredentialsInvalid):
            await anext(messages)


async def test_revoked_caller_gets_no_more_of_a_snapshot(
    store: SqliteStore, config: Config, clock: Clock
) -> None:
    await create(store, documents=3_000)
    watches = BatchWatches(
        store, Notifier(), encode=wire.WatchEncoder(), config=config, clock=clock
    )
    request = watch_request(follow=True)
    revoked = RevokedCaller()
    await revoked.read(watches.watch(request, on_begun=on_begun, caller=revoked.caller))


async def test_revoked_caller_gets_no_more_datasets(
    store: SqliteStore, config: Config, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "_PART", 1)
    for dataset_id in (DATASET_ID, OTHER_DATASET_ID):
        await create(store, dataset_id=dataset_id)
    watches = DatasetWatches(store, Notifier(), config=config, clock=clock)
    request = DatasetsWatchRequest(dataset_ids=None, heartbeat_s=300.0)
    revoked = RevokedCaller()
    await revoked.read(watches.watch(request, on_begun=on_begun, caller=revoked.caller))


async def test_watchers_share_a_read_only_with_equal_visibility(
    store: SqliteStore, config: Config, clock: Clock
) -> None:
    for dataset_id in (DATASET_ID, OTHER_DATASET_ID):
        await create(store, dataset_id=dataset_id)
    watches = DatasetWatches(store, Notifier(), config=config, clock=clock)
    request = DatasetsWatchRequest(dataset_ids=None, heartbeat_s=300.0)

    async def start(visible: Visibility) -> set[str]:
        caller = Caller(principal=Principal(name="", scopes=frozenset(Scope), visible=visible))
        messages = watches.watch(request, on_begun=on_begun, caller=caller)
        async with contextlib.aclosing(messages):
            message: DatasetsMessage = await anext(messages)
        return {dataset.dataset_id for dataset in message.datasets}

    parts = [frozenset({DATASET_ID}), frozenset({OTHER_DATASET_ID}), frozenset[str]()]
    received = await asyncio.gather(*map(start, [ALL, *map(Visibility, parts)] * 3))
    whole = {DATASET_ID, OTHER_DATASET_ID}
    assert received == [whole, *parts] * 3
