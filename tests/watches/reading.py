"""Watches without a server, read message by message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from stagecast import wire
from stagecast.config import Config
from stagecast.model import Caller
from stagecast.notifier import Notifier
from stagecast.store import Store
from stagecast.watches import BatchWatches, DatasetWatches, Receiver, Rounds, Shared
from stagecast.watches.deadlines import Deadlines
from tests.access import ANY_CALLER
from tests.clock import Clock


def open_batch_watches(
    store: Store, notifier: Notifier, config: Config, clock: Clock
) -> BatchWatches:
    """Return what serves watches of batches."""
    shared = Shared(notifier, Deadlines(), Rounds(), config)
    return BatchWatches(store, shared, encode=wire.WatchEncoder(), clock=clock)


def open_dataset_watches(
    store: Store, notifier: Notifier, config: Config, clock: Clock
) -> DatasetWatches:
    """Return what serves watches of datasets."""
    shared = Shared(notifier, Deadlines(), Rounds(), config)
    return DatasetWatches(store, shared, encode=wire.encode_datasets_message, clock=clock)


@dataclass(frozen=True, kw_only=True)
class Client:
    """The client of a watch, made of functions."""

    caller: Caller
    begin: Callable[[], Awaitable[None]]
    send: Callable[[bytes], Awaitable[None]]


async def _nothing() -> None:
    pass


async def messages_of(
    watch: Callable[[Receiver], Awaitable[None]],
    *,
    caller: Caller = ANY_CALLER,
    begin: Callable[[], Awaitable[None]] = _nothing,
) -> AsyncGenerator[bytes]:
    """Yield the messages of a watch, whose write of each lasts until the next is requested."""
    written: list[bytes] = []
    requested, news = asyncio.Event(), asyncio.Event()

    async def send(message: bytes) -> None:
        written.append(message)
        news.set()
        requested.clear()
        await requested.wait()

    watching = asyncio.ensure_future(watch(Client(caller=caller, begin=begin, send=send)))
    watching.add_done_callback(lambda _: news.set())
    try:
        while await news.wait() and written:
            news.clear()
            yield written.pop()  # not held here
            requested.set()
        watching.result()
    finally:
        watching.cancel()
        await asyncio.wait((watching,))
