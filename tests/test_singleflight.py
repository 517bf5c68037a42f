"""Concurrent requests for the same work share one run."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable

import pytest

from stagecast.singleflight import SingleFlight


class Work:
    """Work that runs until `end_one`, and returns the number of its run."""

    def __init__(self) -> None:
        self.started = 0
        self.running = 0
        self.max_running = 0
        self._steps = asyncio.Semaphore(0)
        self._progress = asyncio.Condition()

    async def __call__(self) -> int:
        self.started += 1
        number = self.started
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        async with self._progress:
            self._progress.notify_all()
        await self._steps.acquire()
        self.running -= 1
        return number

    def end_one(self) -> None:
        self._steps.release()

    async def has_started(self, times: int) -> None:
        async with self._progress, asyncio.timeout(60):
            await self._progress.wait_for(lambda: self.started >= times)


async def test_work_with_the_same_key_runs_one_at_a_time() -> None:
    single_flight, work = SingleFlight[int](), Work()
    tasks = []
    for number in (1, 2, 3):
        tasks.append(asyncio.create_task(single_flight.do("a", work)))
        await asyncio.sleep(0)  # it waits for the one before
        if number > 1:
            work.end_one()
        await work.has_started(number)
    work.end_one()
    assert await asyncio.gather(*tasks) == [1, 2, 3]
    assert work.max_running == 1


async def test_work_with_other_keys_does_not_wait() -> None:
    single_flight, work = SingleFlight[int](), Work()
    tasks = [asyncio.create_task(single_flight.do(key, work)) for key in ("a", "b", "c")]
    await work.has_started(3)
    for _ in tasks:
        work.end_one()
    assert sorted(await asyncio.gather(*tasks)) == [1, 2, 3]


async def test_waiting_work_is_shared_and_running_work_is_not() -> None:
    single_flight, work = SingleFlight[int](), Work()
    first = asyncio.create_task(single_flight.do("a", work))
    await work.has_started(1)
    later = [asyncio.create_task(single_flight.do("a", work)) for _ in range(5)]
    for number in (1, 2):
        await work.has_started(number)
        work.end_one()
    assert await first == 1
    assert await asyncio.gather(*later) == [2] * 5


async def test_cancelled_caller_does_not_affect_the_others() -> None:
    single_flight, work = SingleFlight[int](), Work()
    leaving = asyncio.create_task(single_flight.do("a", work))
    staying = asyncio.create_task(single_flight.do("a", work))
    await work.has_started(1)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    work.end_one()
    assert await staying == 1


async def test_work_without_callers_is_cancelled() -> None:
    single_flight, work = SingleFlight[int](), Work()
    running, waiting = (asyncio.create_task(single_flight.do("a", work)) for _ in range(2))
    await work.has_started(1)
    others = asyncio.all_tasks() - {running, waiting, asyncio.current_task()}
    for leaving in (waiting, running):
        leaving.cancel()
    # It must not share the run that is being cancelled.
    tasks = asyncio.create_task(single_flight.do("a", work))
    await asyncio.wait((running, waiting, *others), timeout=60)
    await work.has_started(2)
    work.end_one()
    assert await tasks == 2
    assert work.running == 1, "the first was cancelled"
    assert not single_flight._running
    assert not single_flight._waiting
    assert not single_flight._callers


async def test_error_reaches_all_callers_and_the_next_work_runs() -> None:
    single_flight = SingleFlight[int]()

    async def fail() -> int:
        raise ValueError("broken")

    async def succeed() -> int:
        return 1

    tasks = await asyncio.gather(
        single_flight.do("a", fail), single_flight.do("a", fail), return_exceptions=True
    )
    assert [str(error) for error in tasks] == ["broken", "broken"]
    assert await single_flight.do("a", succeed) == 1


async def test_result_of_the_previous_run_is_freed() -> None:
    """It may be a body of tens of megabytes, and the next run may wait for that memory."""
    single_flight: SingleFlight[object] = SingleFlight()
    started = asyncio.Event()

    class Result:
        pass

    async def produce() -> object:
        started.set()
        await asyncio.sleep(0)
        return Result()

    async def do(work: Callable[[], Awaitable[object]]) -> weakref.ref[object]:
        return weakref.ref(await single_flight.do("key", work))

    async def check_freed() -> object:
        result = await first
        for _ in range(10):  # until the callers have returned
            await asyncio.sleep(0)
        assert result() is None
        return Result()

    first = asyncio.create_task(do(produce))
    await started.wait()
    await do(check_freed)
