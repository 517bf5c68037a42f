"""Answers are kept for as long as they are as good as new ones, and no longer."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from stagecast.feed import Feed
from stagecast.model import ALL, Visibility
from stagecast.rest import kept
from stagecast.rest.content import Body, Content
from stagecast.rest.kept import KeptAnswers

TOPIC = ("dataset", "batch")
KEY = (ALL, "k")


class Source:
    """What answers are made of, which may change while one is made."""

    def __init__(self, feed: Feed) -> None:
        self.value = 0
        self.made = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self._feed = feed

    def change(self) -> None:
        self.value += 1
        self._feed.ring([TOPIC])

    async def read(self) -> Content:
        self.made += 1
        value = self.value
        await self.hold.wait()
        return Body().end(f"{value}".encode())


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
def source(feed: Feed) -> Source:
    return Source(feed)


async def ask(answers: KeptAnswers, source: Source, asked: str = "k") -> str:
    key = (ALL, asked)
    content = answers.find(key)
    if content is None:
        content = await answers.make(key, [TOPIC], source.read)
    return b"".join(content.chunks).decode()


async def test_answer_is_made_once_until_it_changes(feed: Feed, source: Source) -> None:
    answers = KeptAnswers(feed)
    assert [await ask(answers, source) for _ in range(5)] == ["0"] * 5
    assert source.made == 1
    source.change()
    assert [await ask(answers, source) for _ in range(5)] == ["1"] * 5
    assert source.made == 2
    feed.ring([("dataset", "other"), ("other",)])
    assert await ask(answers, source) == "1"
    assert source.made == 2


async def test_change_while_an_answer_is_made_is_not_missed(feed: Feed, source: Source) -> None:
    """Whoever asked before the change may get the old one; nobody after it does."""
    answers = KeptAnswers(feed)
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
    feed: Feed, source: Source
) -> None:
    answers = KeptAnswers(feed)
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
    feed: Feed, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    overhead = kept._PER_ANSWER + kept._PER_TOPIC
    monkeypatch.setattr(kept, "_BYTES", 5 * (len("k1" + "0") + overhead))
    answers = KeptAnswers(feed)
    for number in range(10):
        await ask(answers, source, f"k{number}")
    assert [number for number in range(10) if answers.find((ALL, f"k{number}"))] == [5, 6, 7, 8, 9]
    source.change()
    for number in range(5):
        await ask(answers, source, f"k{number}")
    assert [number for number in range(10) if answers.find((ALL, f"k{number}"))] == [0, 1, 2, 3, 4]


async def test_answer_that_was_asked_for_again_stays_and_what_goes_listens_no_more(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = KeptAnswers(feed)
    size = len("k1" + "0") + kept._PER_ANSWER + kept._PER_TOPIC
    monkeypatch.setattr(kept, "_BYTES", 2 * size)
    for key in ("k1", "k2"):
        await answers.make((ALL, key), [(key,)], partial(make, 1))
    answers.find((ALL, "k1"))
    await answers.make((ALL, "k3"), [("k3",)], partial(make, 1))
    await answers.make((ALL, "k3"), [("k3",)], partial(make, 1))  # in its own place
    assert [key for key in ("k1", "k2", "k3") if answers.find((ALL, key))] == ["k1", "k3"]
    assert feed.topics() == [("k1",), ("k3",)]


async def make(size: int) -> Content:
    return Body().end(b"x" * size)


MANY = Visibility(frozenset(f"{number:036}" for number in range(1_000)))


@pytest.mark.parametrize(
    ("key", "size"),
    [((ALL, "k"), 100_000), ((ALL, "k" * 100_000), 1), ((MANY, b"k"), 1)],
    ids=["body", "question", "visible"],
)
async def test_all_that_an_answer_takes_is_counted(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, key: kept.Key, size: int
) -> None:
    monkeypatch.setattr(kept, "_BYTES", 50_000)
    answers = KeptAnswers(feed)
    await answers.make((ALL, "small"), [TOPIC], partial(make, 1))
    await answers.make(key, [TOPIC], partial(make, size))
    assert answers.find((ALL, "small")) is None, "it made room"


async def test_small_answers_to_ever_new_questions_are_bounded_in_number(
    feed: Feed, source: Source
) -> None:
    """A parameter that only keeps caches away makes each a question of its own."""
    answers = KeptAnswers(feed)
    for number in range(20_000):
        await ask(answers, source, f"_={number}")
    assert sum(answers.find((ALL, f"_={number}")) is not None for number in range(20_000)) < 10_000


async def test_large_answer_and_one_that_could_not_be_made_are_not_kept(
    feed: Feed, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_LARGE", 0)
    answers = KeptAnswers(feed)
    assert await ask(answers, source) == "0"
    assert answers.find(KEY) is None

    async def fail() -> Content:
        raise LookupError

    with pytest.raises(LookupError):
        await answers.make(KEY, [TOPIC], fail)
    assert feed.topics() == [], "nothing listens any more"


async def test_large_answer_is_shared_while_somebody_is_sent_it_and_it_holds(
    feed: Feed, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_LARGE", 0)
    answers = KeptAnswers(feed)
    sent = await answers.make(KEY, [TOPIC], source.read)
    assert answers.find(KEY) is sent
    source.change()
    assert answers.find(KEY) is None
    newer = await answers.make(KEY, [TOPIC], source.read)
    del sent
    assert answers.find(KEY) is newer
    del newer
    assert answers.find(KEY) is None
    assert feed.topics() == [], "nothing listens any more"
