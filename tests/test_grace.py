"""Blocks that others may end with an error, and the grace period of calls."""

from __future__ import annotations

import asyncio

import pytest

from stagecast.errors import Draining, StoreTimeout
from stagecast.grace import Endable, Grace

TIMEOUT = StoreTimeout("late", retry_after_s=1.0)
DRAINING = Draining("over", retry_after_s=1.0)


async def end(*errors: Draining | StoreTimeout, cancel: bool = False) -> BaseException | None:
    """Return what a block ends with that is ended with these errors, or cancelled by others."""
    block = Endable()
    for error in errors:
        block.end(error)
    if cancel:
        block.task.cancel()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as error:
        return block.leave(error)
    raise AssertionError


async def run(*errors: Draining | StoreTimeout, cancel: bool = False) -> BaseException | None:
    async with asyncio.timeout(60):
        return await asyncio.create_task(end(*errors, cancel=cancel))


async def test_first_error_ends_a_block() -> None:
    assert await run(TIMEOUT, DRAINING) is TIMEOUT


async def test_cancellation_by_others_is_none_of_the_errors() -> None:
    assert isinstance(await run(cancel=True), asyncio.CancelledError)
    assert isinstance(await run(TIMEOUT, cancel=True), asyncio.CancelledError)


async def test_block_that_is_over_is_not_ended() -> None:
    block = Endable()
    error = LookupError()
    assert block.leave(error) is error
    block.end(TIMEOUT)
    await asyncio.sleep(0)


async def test_error_of_a_block_is_kept_while_it_is_ended() -> None:
    block = Endable()
    block.end(TIMEOUT)
    error = LookupError()
    assert block.leave(error) is error
    assert not block.task.cancelling()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)


async def test_calls_are_ended_when_the_grace_period_is_over() -> None:
    grace = Grace()
    with grace.until_over():
        pass

    async def wait() -> None:
        with grace.until_over():
            grace.end()
            await asyncio.Event().wait()

    with pytest.raises(Draining):
        await wait()
    grace.end()  # ended calls are forgotten
    await asyncio.sleep(0)
