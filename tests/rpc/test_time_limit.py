"""One time limit for many waits."""

from __future__ import annotations

import asyncio

import pytest

from stagecast.rpc.time_limit import TimeLimit
from tests.conditions import until

NEVER_S = 600.0
SOON_S = 0.02


@pytest.fixture
def expired() -> list[str]:
    return []


async def test_wait_longer_than_the_limit_expires_once_and_counts_until_it_ends(
    expired: list[str],
) -> None:
    limit = TimeLimit(SOON_S, expired.append)
    limit.begin("long")
    await until(lambda: expired == ["long"])
    limit.begin("next")
    await until(lambda: expired == ["long", "next"])
    assert len(limit) == 2
    limit.end("long")
    assert len(limit) == 1


async def test_ended_wait_does_not_expire_and_a_later_one_does(expired: list[str]) -> None:
    limit = TimeLimit(SOON_S, expired.append)
    limit.begin("ended")
    limit.end("ended")
    limit.begin("later")
    await until(lambda: bool(expired))
    assert expired == ["later"]


async def test_wait_with_a_shorter_limit_expires_before_older_ones(expired: list[str]) -> None:
    limit = TimeLimit(NEVER_S, expired.append)
    limit.begin("old")
    limit.begin("short", max_s=SOON_S)
    await until(lambda: expired == ["short"])


async def test_longer_limit_of_a_wait_has_no_effect(expired: list[str]) -> None:
    limit = TimeLimit(SOON_S, expired.append)
    limit.begin("wait", max_s=NEVER_S)
    await until(lambda: expired == ["wait"])


async def test_shortened_waits_expire_and_later_ones_have_the_whole_limit(
    expired: list[str],
) -> None:
    limit = TimeLimit(NEVER_S, expired.append)
    limit.begin("given up")
    limit.expire_oldest()
    limit.begin("old")
    limit.shorten(SOON_S)
    limit.begin("new")
    await until(lambda: len(expired) == 2)
    assert expired == ["given up", "old"], "each once"


async def test_shortening_never_extends_a_limit(expired: list[str]) -> None:
    limit = TimeLimit(SOON_S, expired.append)
    limit.begin("wait")
    limit.shorten(NEVER_S)
    await until(lambda: expired == ["wait"])


async def test_oldest_waits_are_given_up_one_by_one(expired: list[str]) -> None:
    limit = TimeLimit(NEVER_S, expired.append)
    for wait in ("a", "b", "c"):
        limit.begin(wait)
    limit.end("a")
    limit.expire_oldest()
    limit.expire_oldest()
    limit.expire_oldest()
    await until(lambda: expired == ["b", "c"])


async def test_wait_that_ends_just_before_it_expires_does_not(expired: list[str]) -> None:
    """Also if the next one of the same call has begun by then."""
    limit = TimeLimit(NEVER_S, expired.append)
    for wait in ("ended", "again", "expired"):
        limit.begin(wait)
    for _ in range(3):
        limit.expire_oldest()
    limit.end("ended")
    limit.end("again")
    limit.begin("again")
    await until(lambda: bool(expired))
    assert expired == ["expired"]


async def test_error_of_one_wait_leaves_the_limit_of_others_alone(expired: list[str]) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: errors.append(context["exception"])
    )

    def expire(wait: str) -> None:
        if wait == "broken":
            raise LookupError("a bug")
        expired.append(wait)

    limit = TimeLimit(SOON_S, expire)
    limit.begin("broken")
    limit.begin("other")
    await until(lambda: expired == ["other"])
    limit.begin("later")
    await until(lambda: expired == ["other", "later"])
    assert [type(error) for error in errors] == [LookupError]


async def test_many_waits_share_one_timer_and_an_idle_limit_has_none(
    expired: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, timers = asyncio.get_running_loop(), list[float]()
    call_later = loop.call_later

    def counted(delay_s: float, *arguments: object) -> asyncio.TimerHandle:
        timers.append(delay_s)
        return call_later(delay_s, *arguments)  # type: ignore[arg-type]  # any arguments

    monkeypatch.setattr(loop, "call_later", counted)
    limit = TimeLimit(SOON_S, expired.append)
    for number in range(1_000):
        limit.begin(f"{number}")
        limit.end(f"{number}")
    assert len(timers) == 1
    fired = asyncio.Event()
    call_later(10 * SOON_S, fired.set)
    await fired.wait()
    assert len(timers) == 1
    assert not expired
