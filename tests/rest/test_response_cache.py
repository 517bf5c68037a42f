"""Responses are cached while they are valid, and no longer."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from stagecast.model import ALL, Visibility
from stagecast.notifier import Notifier
from stagecast.rest import response_cache
from stagecast.rest.content import Body, Content
from stagecast.rest.response_cache import ResponseCache

TOPIC = ("dataset", "batch")
KEY = (ALL, "k")


class Source:
    """The data of responses, which may change while one is made."""

    def __init__(self, notifier: Notifier) -> None:
        self.value = 0
        self.made = 0
        self.released = asyncio.Event()
        self.released.set()
        self._notifier = notifier

    def change(self) -> None:
        self.value += 1
        self._notifier.notify([TOPIC])

    async def read(self) -> Content:
        self.made += 1
        value = self.value
        await self.released.wait()
        return Body().end(f"{value}".encode())


@pytest.fixture
def notifier() -> Notifier:
    return Notifier()


@pytest.fixture
def source(notifier: Notifier) -> Source:
    return Source(notifier)


async def get(cache: ResponseCache, source: Source, requested: str = "k") -> str:
    key = (ALL, requested)
    content = cache.find(key)
    if content is None:
        content = await cache.make(key, [TOPIC], source.read)
    return b"".join(content.chunks).decode()


async def test_response_is_made_once_until_it_changes(notifier: Notifier, source: Source) -> None:
    cache = ResponseCache(notifier)
    assert [await get(cache, source) for _ in range(5)] == ["0"] * 5
    assert source.made == 1
    source.change()
    assert [await get(cache, source) for _ in range(5)] == ["1"] * 5
    assert source.made == 2
    notifier.notify([("dataset", "other"), ("other",)])
    assert await get(cache, source) == "1"
    assert source.made == 2


async def test_change_while_a_response_is_made_is_not_missed(
    notifier: Notifier, source: Source
) -> None:
    """Only requests before the change may get the old response."""
    cache = ResponseCache(notifier)
    source.released.clear()
    early = asyncio.create_task(get(cache, source))
    await asyncio.sleep(0)  # now it has read
    source.change()
    late = asyncio.create_task(get(cache, source))
    await asyncio.sleep(0)
    source.released.set()
    assert await early == "0"
    assert await late == "1"
    assert await get(cache, source) == "1"


async def test_late_response_does_not_replace_a_newer_one(
    notifier: Notifier, source: Source
) -> None:
    cache = ResponseCache(notifier)
    source.released.clear()
    slow = asyncio.create_task(get(cache, source))
    await asyncio.sleep(0)  # now it has read
    source.change()
    earlier, source.released = source.released, asyncio.Event()
    source.released.set()
    assert await get(cache, source) == "1"
    earlier.set()
    await slow
    assert await get(cache, source) == "1"


async def test_cache_is_bounded_and_evicts_the_oldest(
    notifier: Notifier, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    overhead = response_cache._PER_ENTRY + response_cache._PER_TOPIC
    monkeypatch.setattr(response_cache, "_BYTES", 5 * (len("k1" + "0") + overhead))
    cache = ResponseCache(notifier)
    for number in range(10):
        await get(cache, source, f"k{number}")
    assert [number for number in range(10) if cache.find((ALL, f"k{number}"))] == [5, 6, 7, 8, 9]
    source.change()
    for number in range(5):
        await get(cache, source, f"k{number}")
    assert [number for number in range(10) if cache.find((ALL, f"k{number}"))] == [0, 1, 2, 3, 4]


async def test_eviction_is_least_recently_used_and_unsubscribes(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ResponseCache(notifier)
    size = len("k1" + "0") + response_cache._PER_ENTRY + response_cache._PER_TOPIC
    monkeypatch.setattr(response_cache, "_BYTES", 2 * size)
    for key in ("k1", "k2"):
        await cache.make((ALL, key), [(key,)], partial(make, 1))
    cache.find((ALL, "k1"))
    await cache.make((ALL, "k3"), [("k3",)], partial(make, 1))
    await cache.make((ALL, "k3"), [("k3",)], partial(make, 1))  # replaces itself
    assert [key for key in ("k1", "k2", "k3") if cache.find((ALL, key))] == ["k1", "k3"]
    assert notifier.topics() == [("k1",), ("k3",)]


async def make(size: int) -> Content:
    return Body().end(b"x" * size)


MANY = Visibility(frozenset(f"{number:036}" for number in range(1_000)))


@pytest.mark.parametrize(
    ("key", "size"),
    [((ALL, "k"), 100_000), ((ALL, "k" * 100_000), 1), ((MANY, b"k"), 1)],
    ids=["body", "query", "visible"],
)
async def test_body_key_and_visibility_count_against_the_limit(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch, key: response_cache.Key, size: int
) -> None:
    monkeypatch.setattr(response_cache, "_BYTES", 50_000)
    cache = ResponseCache(notifier)
    await cache.make((ALL, "small"), [TOPIC], partial(make, 1))
    await cache.make(key, [TOPIC], partial(make, size))
    assert cache.find((ALL, "small")) is None, "it was evicted"


async def test_number_of_small_responses_is_bounded(notifier: Notifier, source: Source) -> None:
    """A cache-busting parameter makes every request different."""
    cache = ResponseCache(notifier)
    for number in range(20_000):
        await get(cache, source, f"_={number}")
    assert sum(cache.find((ALL, f"_={number}")) is not None for number in range(20_000)) < 10_000


async def test_large_and_failed_responses_are_not_cached(
    notifier: Notifier, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_cache, "_LARGE", 0)
    cache = ResponseCache(notifier)
    assert await get(cache, source) == "0"
    assert cache.find(KEY) is None

    async def fail() -> Content:
        raise LookupError

    with pytest.raises(LookupError):
        await cache.make(KEY, [TOPIC], fail)
    assert notifier.topics() == [], "no subscription is left"


async def test_large_response_is_shared_while_it_is_sent_and_valid(
    notifier: Notifier, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_cache, "_LARGE", 0)
    cache = ResponseCache(notifier)
    sent = await cache.make(KEY, [TOPIC], source.read)
    assert cache.find(KEY) is sent
    source.change()
    assert cache.find(KEY) is None
    newer = await cache.make(KEY, [TOPIC], source.read)
    del sent
    assert cache.find(KEY) is newer
    del newer
    assert cache.find(KEY) is None
    assert notifier.topics() == [], "no subscription is left"
