"""When the heartbeat of a watch is due, and when the watch expires."""

from __future__ import annotations

import asyncio

import pytest

from stagecast.config import Config
from stagecast.errors import Draining, WatchExpired
from stagecast.notifier import Notifier
from stagecast.watches.timers import WatchTimers, check_open

NEVER_S = 1e6


@pytest.mark.parametrize(
    ("heartbeat_s", "min_s", "max_s"), [(300.0, 290.0, 299.5), (1.0, 0.5, 0.9)]
)
async def test_heartbeat_is_due_a_little_before_the_client_misses_it(
    heartbeat_s: float, min_s: float, max_s: float
) -> None:
    now = asyncio.get_running_loop().time
    before_s = now()
    timers = WatchTimers(heartbeat_s, Config(watch_life_s=NEVER_S))
    assert before_s + min_s < timers.due_s <= now() + max_s


async def test_due_heartbeat_waits_a_little_for_a_read() -> None:
    before_s = asyncio.get_running_loop().time()
    timers = WatchTimers(10.0, Config(watch_life_s=NEVER_S))
    timers._last_s -= 10.0
    assert timers.heartbeat_due
    assert timers.until_due_s == 0
    assert 0 < timers.read_timeout_s <= 0.5
    timers.sent()
    assert timers.due_s > before_s + 5


async def test_watches_that_begin_together_do_not_end_together() -> None:
    now, config = asyncio.get_running_loop().time, Config(watch_life_s=1_000.0)
    before_s = now()
    ends = [WatchTimers(NEVER_S, config).due_s for _ in range(50)]
    assert len({round(end_s / 10) for end_s in ends}) > 5
    assert all(before_s + 900 <= end_s <= now() + 1_100 for end_s in ends)


async def test_watches_that_end_together_do_not_reconnect_together() -> None:
    drained = Notifier()
    drained.close()
    for pauses in (
        {_pause_after_expiry() for _ in range(50)},
        {_pause_after_drain(drained) for _ in range(50)},
    ):
        assert len(pauses) > 25
        assert all(0 <= pause <= 1 for pause in pauses)


def _pause_after_expiry() -> float:
    with pytest.raises(WatchExpired) as caught:
        WatchTimers(NEVER_S, Config(watch_life_s=0.0)).check_alive(Notifier())
    return caught.value.retry_after_s


def _pause_after_drain(drained: Notifier) -> float:
    with pytest.raises(Draining) as caught:
        check_open(drained)
    return caught.value.retry_after_s
