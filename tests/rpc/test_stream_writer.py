"""Writing to slow readers, without gRPC, so that a reader can stop at any point."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc import aio

from stagecast.deadlines import Deadlines
from stagecast.errors import Draining, SlowReader
from stagecast.rpc import stream_writer
from tests.conditions import until

NEVER_S = 600.0
SOON_S = 300.0
AT_ONCE_S = 0.01


class Reader:
    """The context of a call whose client reads messages once `reading` is set."""

    def __init__(self) -> None:
        self.begun = 0
        self.reading = asyncio.Event()

    async def write(self, _message: object) -> None:
        self.begun += 1
        await self.reading.wait()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"


class Stopped:
    """The context of a call whose status waits behind unread messages."""

    async def abort(self, *_: object, **__: object) -> None:
        await asyncio.Event().wait()


class Broken:
    """The context of a call that grpc cannot answer any more."""

    async def abort(self, *_: object, **__: object) -> None:
        raise aio.InternalError


def new_writer(blocked_s: float, *, draining_s: float) -> stream_writer.StreamWriter:
    return stream_writer.StreamWriter(blocked_s, draining_s=draining_s, deadlines=Deadlines())


async def begin(writer: stream_writer.StreamWriter, reader: Any) -> asyncio.Task[None]:
    """Start a write of a message that the reader does not read yet."""
    task = asyncio.create_task(writer.write(reader, b"message"))
    await until(lambda: bool(reader.begun))
    return task


async def ending(task: asyncio.Task[None]) -> Exception:
    """Return the error of a write."""
    async with asyncio.timeout(60):
        [error] = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(error, Exception)
    return error


async def test_message_read_in_time_is_written() -> None:
    writer, reader = new_writer(NEVER_S, draining_s=AT_ONCE_S), Reader()
    task = await begin(writer, reader)
    reader.reading.set()
    await task
    writer.drain()  # finished writes are forgotten
    assert not writer._writes


async def test_write_is_never_given_up_early() -> None:
    writer, reader = new_writer(SOON_S, draining_s=NEVER_S), Reader()
    task = await begin(writer, reader)
    [end_s] = writer._writes.values()
    writer.check(end_s - 0.001, end_s + NEVER_S)
    await asyncio.sleep(0)
    assert not task.done()
    writer.check(end_s, end_s)
    assert isinstance(await ending(task), SlowReader)


async def test_call_that_is_cancelled_while_its_write_is_given_up_stays_cancelled() -> None:
    writer = new_writer(SOON_S, draining_s=NEVER_S)
    task = await begin(writer, Reader())
    [end_s] = writer._writes.values()
    writer.check(end_s, end_s)
    task.cancel()
    await asyncio.wait((task,), timeout=60)
    assert task.cancelled()


async def test_writes_are_not_checked_when_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines = Deadlines()
    writer = stream_writer.StreamWriter(0.01, draining_s=AT_ONCE_S, deadlines=deadlines)
    for _ in range(2):
        reader = Reader()
        reader.reading.set()
        await writer.write(reader, b"message")  # type: ignore[arg-type]  # a stand-in
        assert deadlines._timer is not None
        await until(lambda: deadlines._timer is None)


async def test_slow_reader_gets_a_retry_delay() -> None:
    error = await ending(await begin(new_writer(AT_ONCE_S, draining_s=NEVER_S), Reader()))
    assert isinstance(error, SlowReader)
    assert error.retry_after_s > 0


async def test_drain_shortens_the_timeout_of_slow_readers() -> None:
    writer = new_writer(NEVER_S, draining_s=AT_ONCE_S)
    before = await begin(writer, Reader())
    writer.drain()
    after = await begin(writer, Reader())
    for task in (before, after):
        error = await ending(task)
        assert isinstance(error, Draining)
        assert error.retry_after_s > 0


async def test_drain_never_extends_a_timeout() -> None:
    writer = new_writer(SOON_S, draining_s=NEVER_S)
    before = await begin(writer, Reader())
    [end_s] = writer._writes.values()
    writer.drain()
    assert [*writer._writes.values()] == [end_s]
    after = await begin(writer, Reader())
    end_s = asyncio.get_running_loop().time() + SOON_S
    assert all(written_until_s < end_s for written_until_s in writer._writes.values())
    for task in (before, after):
        task.cancel()


async def test_drain_during_a_write_timeout_is_harmless() -> None:
    writer = new_writer(AT_ONCE_S, draining_s=NEVER_S)

    class Late(Reader):
        async def write(self, message: object) -> None:
            try:
                await super().write(message)
            finally:
                writer.drain()

    assert isinstance(await ending(await begin(writer, Late())), Draining)


@pytest.mark.parametrize("client", [Stopped(), Broken()], ids=["stopped", "broken"])
async def test_call_is_cancelled_if_its_status_cannot_be_sent(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_writer, "_STATUS_S", AT_ONCE_S)
    ending = asyncio.create_task(stream_writer.end(client, grpc.StatusCode.UNAVAILABLE, "not read"))
    await asyncio.wait((ending,), timeout=60)
    assert ending.cancelled()
