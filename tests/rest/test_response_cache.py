"""Answers are kept for as long as they are as good as new ones, and no longer."""

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
    """What answers are made of, which may change while one is made."""

    def __init__(self, notifier: Notifier) -> None:
        self.value = 0
        self.made = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self._notifier = notifier

    def change(self) -> None:
        self.value += 1
        self._notifier.notify([TOPIC])

    async def read(self) -> Content:
        self.made += 1
        value = self.value
        await self.hold.wait()
        return Body().end(f"{value}".encode())


@pytest.fixture
def notifier() -> Notifier:
    return Notifier()


@pytest.fixture
def source(notifier: Notifier) -> Source:
    return Source(notifier)


async def ask(answers: ResponseCache, source: Source, requested: str = "k") -> str:
    key = (ALL, requested)
    content = answers.find(key)
    if content is None:
        content = await answers.make(key, [TOPIC], source.read)
    return b"".join(content.chunks).decode()


async def test_answer_is_made_once_until_it_changes(notifier: Notifier, source: Source) -> None:
    answers = ResponseCache(notifier)
    assert [await ask(answers, source) for _ in range(5)] == ["0"] * 5
    assert source.made == 1
    source.change()
    assert [await ask(answers, source) for _ in range(5)] == ["1"] * 5
    assert source.made == 2
    notifier.notify([("dataset", "other"), ("other",)])
    assert await ask(answers, source) == "1"
    assert source.made == 2


async def test_change_while_an_answer_is_made_is_not_missed(
    notifier: Notifier, source: Source
) -> None:
    """Whoever asked before the change may get the old one; nobody after it does."""
    answers = ResponseCache(notifier)
    source.hold.clear()
    early = asyncio.create_task(ask(answers, source))
    await asyncio.sleep(0)  # it has read
    source.change()
    late = asyncio.create_task(ask(answers, source))
    await asyncio.sleep(0)
    source.hold.set()
    assert await early == "0"
    assert await late == "1"
    assert await ask(answers, source) == "1"


async def test_late_answer_does_not_replace_a_newer_one_for_good(
    notifier: Notifier, source: Source
) -> None:
    answers = ResponseCache(notifier)
    source.hold.clear()
    slow = asyncio.create_task(ask(answers, source))
    await asyncio.sleep(0)  # it has read
    source.change()
    held, source.hold = source.hold, asyncio.Event()
    source.hold.set()
    assert await ask(answers, source) == "1"
    held.set()
    await slow
    assert await ask(answers, source) == "1"


async def test_what_is_kept_is_bounded_and_the_oldest_goes(
    notifier: Notifier, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    overhead = response_cache._PER_ENTRY + response_cache._PER_TOPIC
    monkeypatch.setattr(response_cache, "_BYTES", 5 * (len("k1" + "0") + overhead))
    answers = ResponseCache(notifier)
    for number in range(10):
        await ask(answers, source, f"k{number}")
    assert [number for number in range(10) if answers.find((ALL, f"k{number}"))] == [5, 6, 7, 8, 9]
    source.change()
    for number in range(5):
        await ask(answers, source, f"k{number}")
    assert [number for number in range(10) if answers.find((ALL, f"k{number}"))] == [0, 1, 2, 3, 4]


async def test_answer_that_was_asked_for_again_stays_and_what_goes_listens_no_more(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ResponseCache(notifier)
    size = len("k1" + "0") + response_cache._PER_ENTRY + response_cache._PER_TOPIC
    monkeypatch.setattr(response_cache, "_BYTES", 2 * size)
    for key in ("k1", "k2"):
        await answers.make((ALL, key), [(key,)], partial(make, 1))
    answers.find((ALL, "k1"))
    await answers.make((ALL, "k3"), [("k3",)], partial(make, 1))
    await answers.make((ALL, "k3"), [("k3",)], partial(make, 1))  # in its own place
    assert [key for key in ("k1", "k2", "k3") if answers.find((ALL, key))] == ["k1", "k3"]
    assert notifier.topics() == [("k1",), ("k3",)]


async def make(size: int) -> Content:
    return Body().end(b"x" * size)


MANY = Visibility(frozenset(f"{number:036}" for number in range(1_000)))


@pytest.mark.parametrize(
    ("key", "size"),
    [((ALL, "k"), 100_000), ((ALL, "k" * 100_000), 1), ((MANY, b"k"), 1)],
    ids=["body", "question", "visible"],
)
async def test_all_that_an_answer_takes_is_counted(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch, key: response_cache.Key, size: int
) -> None:
    monkeypatch.setattr(response_cache, "_BYTES", 50_000)
    answers = ResponseCache(notifier)
    await answers.make((ALL, "small"), [TOPIC], partial(make, 1))
    await answers.make(key, [TOPIC], partial(make, size))
    assert answers.find((ALL, "small")) is None, "it made room"


async def test_small_answers_to_ever_new_questions_are_bounded_in_number(
    notifier: Notifier, source: Source
) -> None:
    """A parameter that only keeps caches away makes each a question of its own."""
    answers = ResponseCache(notifier)
    for number in range(20_000):
        await ask(answers, source, f"_={number}")
    assert sum(answers.find((ALL, f"_={number}")) is not None for number in range(20_000)) < 10_000


async def test_large_answer_and_one_that_could_not_be_made_are_not_kept(
    notifier: Notifier, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_cache, "_LARGE", 0)
    answers = ResponseCache(notifier)
    assert await ask(answers, source) == "0"
    assert answers.find(KEY) is None

    async def fail() -> Content:
        raise LookupError

    with pytest.raises(LookupError):
        await answers.make(KEY, [TOPIC], fail)
    assert notifier.topics() == [], "nothing listens any more"


async def test_large_answer_is_shared_while_somebody_is_sent_it_and_it_holds(
    notifier: Notifier, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_cache, "_LARGE", 0)
    answers = ResponseCache(notifier)
    sent = await answers.make(KEY, [TOPIC], source.read)
    assert answers.find(KEY) is sent
    source.change()
    assert answers.find(KEY) is None
    newer = await answers.make(KEY, [TOPIC], source.read)
    del sent
    assert answers.find(KEY) is newer
    del newer
    assert answers.find(KEY) is None
    assert notifier.topics() == [], "nothing listens any more"
