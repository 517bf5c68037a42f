"""A revoked caller gets no further messages, even within a snapshot."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import pytest

from stagecast.config import Config
from stagecast.errors import CredentialsInvalid
from stagecast.model import (
    ALL,
    ANONYMOUS,
    Caller,
    DatasetsWatchRequest,
    Principal,
    Scope,
    Visibility,
)
from stagecast.notifier import Notifier
from stagecast.store.sqlite import SqliteStore
from stagecast.v1 import status_service_pb2 as ss
from stagecast.watches import datasets
from tests.builders import DATASET_ID, create, watch_request
from tests.clock import Clock
from tests.store.deletion import OTHER_DATASET_ID
from tests.store.test_integrity import opened
from tests.watches.reading import messages_of, open_batch_watches, open_dataset_watches


@pytest.fixture
async def store(config: Config, clock: Clock) -> AsyncIterator[SqliteStore]:
    async with opened(config.db, clock) as store:
        yield store


class RevokedCaller:
    """A caller whose credentials are revoked after one message."""

    def __init__(self) -> None:
        self._revoked = False
        self.caller = Caller(principal=ANONYMOUS, check=self._check)

    def _check(self) -> None:
        if self._revoked:
            raise CredentialsInvalid("revoked")

    async def read(self, messages: AsyncIterator[bytes]) -> None:
        await anext(messages)
        self._revoked = True
        with pytest.raises(CredentialsInvalid):
            await anext(messages)


async def test_revoked_caller_gets_no_more_of_a_snapshot(
    store: SqliteStore, config: Config, clock: Clock
) -> None:
    await create(store, documents=3_000)
    watches = open_batch_watches(store, Notifier(), config, clock)
    watch = partial(watches.watch, watch_request(follow=True))
    revoked = RevokedCaller()
    await revoked.read(messages_of(watch, caller=revoked.caller))


async def test_revoked_caller_of_an_idle_watch_is_refused_without_a_notification(
    store: SqliteStore, config: Config, clock: Clock
) -> None:
    await create(store, documents=1)
    watches = open_batch_watches(store, Notifier(), config, clock)
    watch = partial(watches.watch, watch_request(follow=True, heartbeat_s=1.0))
    revoked = RevokedCaller()
    async with asyncio.timeout(60):
        await revoked.read(messages_of(watch, caller=revoked.caller))


async def test_revoked_caller_gets_no_more_datasets(
    store: SqliteStore, config: Config, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "_PART", 1)
    for dataset_id in (DATASET_ID, OTHER_DATASET_ID):
        await create(store, dataset_id=dataset_id)
    watches = open_dataset_watches(store, Notifier(), config, clock)
    request = DatasetsWatchRequest(dataset_ids=None, heartbeat_s=300.0)
    revoked = RevokedCaller()
    await revoked.read(messages_of(partial(watches.watch, request), caller=revoked.caller))


async def test_watchers_share_a_read_only_with_equal_visibility(
    store: SqliteStore, config: Config, clock: Clock
) -> None:
    for dataset_id in (DATASET_ID, OTHER_DATASET_ID):
        await create(store, dataset_id=dataset_id)
    watches = open_dataset_watches(store, Notifier(), config, clock)
    request = DatasetsWatchRequest(dataset_ids=None, heartbeat_s=300.0)

    async def start(visible: Visibility) -> set[str]:
        caller = Caller(principal=Principal(name="", scopes=frozenset(Scope), visible=visible))
        messages = messages_of(partial(watches.watch, request), caller=caller)
        async with contextlib.aclosing(messages):
            message = ss.WatchDatasetsResponse.FromString(await anext(messages))
        return {dataset.dataset_id for dataset in message.datasets}

    parts = [frozenset({DATASET_ID}), frozenset({OTHER_DATASET_ID}), frozenset[str]()]
    received = await asyncio.gather(*map(start, [ALL, *map(Visibility, parts)] * 3))
    whole = {DATASET_ID, OTHER_DATASET_ID}
    assert received == [whole, *parts] * 3
