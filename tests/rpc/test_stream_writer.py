"""Writing to readers who have stopped, below gRPC, where the reader may stop at any moment."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc import aio

from stagecast.errors import Draining, SlowReader
from stagecast.rpc import stream_writer
from tests.conditions import until

NEVER_S = 600.0
SOON_S = 300.0
AT_ONCE_S = 0.01


class Reader:
    """A client, as far as a stream is written to it: it takes a message when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.reading = asyncio.Event()

    async def write(self, _message: object) -> None:
        self.begun += 1
        await self.reading.wait()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"


class Stopped:
    """A client whose status waits behind what it has not read."""

    async def abort(self, *_: object, **__: object) -> None:
        await asyncio.Event().wait()


class Broken:
    """A client whom grpc cannot tell anything any more."""

    async def abort(self, *_: object, **__: object) -> None:
        raise aio.InternalError


async def begin(keeping: stream_writer.StreamWriter, reader: Any) -> asyncio.Task[None]:
    """Begin to write a message that the reader does not take yet."""
    task = asyncio.create_task(keeping.write(reader, b"message"))
    await until(lambda: bool(reader.begun))
    return task


async def ending(task: asyncio.Task[None]) -> Exception:
    """Return what a write ends with."""
    async with asyncio.timeout(60):
        [error] = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(error, Exception)
    return error


async def test_reader_that_takes_a_message_in_time_is_written_to() -> None:
    keeping, reader = stream_writer.StreamWriter(NEVER_S, draining_s=AT_ONCE_S), Reader()
    task = await begin(keeping, reader)
    reader.reading.set()
    await task
    keeping.drain()  # what has been written is forgotten
    assert not keeping._writes


async def test_reader_that_takes_nothing_is_told_when_to_come_again() -> None:
    error = await ending(
        await begin(stream_writer.StreamWriter(AT_ONCE_S, draining_s=NEVER_S), Reader())
    )
    assert isinstance(error, SlowReader)
    assert error.retry_after_s > 0


async def test_reader_that_takes_nothing_has_little_time_left_when_the_server_drains() -> None:
    keeping = stream_writer.StreamWriter(NEVER_S, draining_s=AT_ONCE_S)
    before = await begin(keeping, Reader())
    keeping.drain()
    after = await begin(keeping, Reader())
    for task in (before, after):
        error = await ending(task)
        assert isinstance(error, Draining)
        assert error.retry_after_s > 0


async def test_drain_gives_nobody_more_time() -> None:
    keeping = stream_writer.StreamWriter(SOON_S, draining_s=NEVER_S)
    before = await begin(keeping, Reader())
    [timers] = keeping._writes
    end_s = timers.when()
    keeping.drain()
    assert timers.when() == end_s
    after = await begin(keeping, Reader())
    end_s = asyncio.get_running_loop().time() + SOON_S
    assert all((timers.when() or end_s) < end_s for timers in keeping._writes)
    for task in (before, after):
        task.cancel()


async def test_drain_as_a_write_is_given_up_harms_nobody() -> None:
    keeping = stream_writer.StreamWriter(AT_ONCE_S, draining_s=NEVER_S)

    class Late(Reader):
        async def write(self, message: object) -> None:
            try:
                await super().write(message)
            finally:
                keeping.drain()

    assert isinstance(await ending(await begin(keeping, Late())), Draining)


@pytest.mark.parametrize("client", [Stopped(), Broken()], ids=["stopped", "broken"])
async def test_client_that_cannot_be_told_is_let_go_of(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_writer, "_STATUS_S", AT_ONCE_S)
    ending = asyncio.create_task(stream_writer.end(client, grpc.StatusCode.UNAVAILABLE, "not read"))
    await asyncio.wait((ending,), timeout=60)
    assert ending.cancelled()
