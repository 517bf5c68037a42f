"""Periodic tasks continue after every error, and log it once."""

from __future__ import annotations

import asyncio
import logging

import pytest

from stagecast.errors import StoreBusy
from stagecast.periodic import PeriodicTask

_log = logging.getLogger("stagecast.periodic")


class Work:
    """Raises the given errors, one per run."""

    def __init__(self, *errors: BaseException | None) -> None:
        self._errors = list(errors)

    async def do(self) -> None:
        error = self._errors.pop(0)
        if error is not None:
            raise error


def busy() -> StoreBusy:
    return StoreBusy("disk full", retry_after_s=0.25)


async def test_repeated_error_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work, task = Work(busy(), busy(), None, busy()), PeriodicTask(_log, "do it")
    assert [await task.attempt(work.do) for _ in range(4)] == [0.25, 0.25, None, 0.25]
    assert [record.getMessage() for record in caplog.records] == ["cannot do it: disk full"] * 2


async def test_bug_is_logged_with_its_traceback_also_while_the_store_is_busy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bugs = [RuntimeError(message) for message in ("a bug", "a bug", "another")]
    work, task = Work(busy(), *bugs), PeriodicTask(_log, "do it")
    assert [await task.attempt(work.do) for _ in range(4)] == [0.25, 1.0, 1.0, 1.0]
    fault, bug, other = caplog.records
    assert [one.levelname for one in (fault, bug, other)] == ["WARNING", "ERROR", "ERROR"]
    assert bug.exc_info is not None
    assert caplog.text.count("Traceback") == 2


async def test_cancelled_work_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(asyncio.CancelledError):
        await PeriodicTask(_log, "do it").attempt(Work(asyncio.CancelledError()).do)
    assert not caplog.records
