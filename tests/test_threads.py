"""Work on daemon threads, which the end of the process does not wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from stagecast import threads
from stagecast.threads import is_cancelled, run_cancellable, run_in_daemon
from tests.conditions import until


async def test_result_and_error_reach_the_caller() -> None:
    assert (await run_in_daemon(threading.current_thread)).daemon
    with pytest.raises(ValueError, match="broken"):
        await run_in_daemon(_raise(ValueError("broken")))


async def test_stop_iteration_becomes_a_runtime_error() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await run_in_daemon(_raise(StopIteration()))


async def test_cancelled_caller_does_not_wait_for_the_work() -> None:
    begun, held = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        held.wait()

    leaving = asyncio.create_task(run_in_daemon(work))
    await until(begun.is_set)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    held.set()


async def test_cancelled_work_notices_it_and_is_waited_for() -> None:
    begun, cleaned_up = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        while not is_cancelled():
            pass
        cleaned_up.set()
        raise ValueError("interrupted")

    leaving = asyncio.create_task(run_cancellable(work, doing="waiting"))
    await until(begun.is_set)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert cleaned_up.is_set()
    assert not is_cancelled()


async def test_cancelled_work_that_does_not_end_is_abandoned_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threads, "_CLEANUP_S", 0.01)
    held = threading.Event()
    leaving = asyncio.create_task(run_cancellable(held.wait, doing="opening a.db"))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    held.set()
    assert "gave up opening a.db: it has not ended 0.01 s after the signal" in caplog.text


def test_work_may_end_after_the_loop() -> None:
    held, ended = threading.Event(), threading.Event()

    def work() -> None:
        held.wait()
        ended.set()

    async def leave() -> None:
        asyncio.create_task(run_in_daemon(work))  # noqa: RUF006 - it ends with the loop
        await asyncio.sleep(0)

    asyncio.run(leave())
    held.set()
    assert ended.wait(60)


def _raise(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work
