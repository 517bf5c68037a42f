"""When a watch has to be heard from, and when it has lived long enough."""

from __future__ import annotations

import asyncio

import pytest

from stagecast.config import Config
from stagecast.errors import Draining, WatchExpired
from stagecast.feed import Feed
from stagecast.watches.patience import Patience, check_open

NEVER_S = 1e6


@pytest.mark.parametrize(
    ("heartbeat_s", "least_s", "most_s"), [(300.0, 290.0, 299.5), (1.0, 0.5, 0.9)]
)
async def test_heartbeat_is_due_a_little_before_the_client_misses_it(
    heartbeat_s: float, least_s: float, most_s: float
) -> None:
    now = asyncio.get_running_loop().time
    before_s = now()
    patience = Patience(heartbeat_s, Config(watch_life_s=NEVER_S))
    assert before_s + least_s < patience.due_s <= now() + most_s


async def test_heartbeat_that_is_due_waits_a_little_for_a_look() -> None:
    before_s = asyncio.get_running_loop().time()
    patience = Patience(10.0, Config(watch_life_s=NEVER_S))
    patience._last_s -= 10.0
    assert patience.heartbeat_due
    assert patience.until_due_s == 0
    assert 0 < patience.for_a_look_s <= 0.5
    patience.sent()
    assert patience.due_s > before_s + 5


async def test_watches_that_begin_together_do_not_end_together() -> None:
    now, config = asyncio.get_running_loop().time, Config(watch_life_s=1_000.0)
    before_s = now()
    ends = [Patience(NEVER_S, config).due_s for _ in range(50)]
    assert len({round(end_s / 10) for end_s in ends}) > 5
    assert all(before_s + 900 <= end_s <= now() + 1_100 for end_s in ends)


async def test_watches_that_end_together_do_not_come_again_together() -> None:
    drained = Feed()
    drained.close()
    for pauses in (
        {_pause_after_its_life() for _ in range(50)},
        {_pause_after(drained) for _ in range(50)},
    ):
        assert len(pauses) > 25
        assert all(0 <= pause <= 1 for pause in pauses)


def _pause_after_its_life() -> float:
    with pytest.raises(WatchExpired) as caught:
        Patience(NEVER_S, Config(watch_life_s=0.0)).check_alive(Feed())
    return caught.value.retry_after_s


def _pause_after(drained: Feed) -> float:
    with pytest.raises(Draining) as caught:
        check_open(drained)
    return caught.value.retry_after_s
