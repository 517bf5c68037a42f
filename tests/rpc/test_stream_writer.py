"""Writing to slow readers, without gRPC, so that a reader can stop at any point."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from grpc import aio

from stagecast.errors import Draining, SlowReader
from stagecast.rpc import stream_writer
from stagecast.rpc.running_calls import RunningCall
from tests.conditions import until

NEVER_S = 600.0
SOON_S = 300.0
AT_ONCE_S = 0.01


class Reader:
    """The context of a call whose client reads once `reading` is set."""

    def __init__(self) -> None:
        self.begun = 0
        self.reading = asyncio.Event()

    async def write(self, _message: object) -> None:
        self.begun += 1
        await self.reading.wait()

    async def send_initial_metadata(self, _headers: object) -> None:
        await self.write(b"")

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
    return stream_writer.StreamWriter(blocked_s, draining_s=draining_s)


async def write(writer: stream_writer.StreamWriter, reader: Any) -> None:
    """Make a call that writes a message; raise the error that it is answered with."""
    call = RunningCall(reader)
    try:
        await writer.write(call, b"message")
    except asyncio.CancelledError as error:
        raise call.leave(error) or error from None


async def begin(writer: stream_writer.StreamWriter, reader: Any) -> asyncio.Task[None]:
    """Start a write of a message that the reader does not read yet."""
    task = asyncio.create_task(write(writer, reader))
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
    writer = new_writer(SOON_S, draining_s=NEVER_S)
    task = await begin(writer, Reader())
    writer._writes._wake()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    writer._writes.expire_oldest()
    assert isinstance(await ending(task), SlowReader)


async def test_call_that_is_cancelled_while_its_write_is_given_up_stays_cancelled() -> None:
    writer = new_writer(SOON_S, draining_s=NEVER_S)
    task = await begin(writer, Reader())
    writer._writes.expire_oldest()
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.wait((task,), timeout=60)
    assert task.cancelled()


async def test_headers_have_the_time_limit_of_a_message() -> None:
    writer, reader = new_writer(AT_ONCE_S, draining_s=NEVER_S), Reader()

    async def write_headers() -> None:
        call = RunningCall(reader)  # type: ignore[arg-type]  # a stand-in
        try:
            await writer.begin(call)
        except asyncio.CancelledError as error:
            raise call.leave(error) or error from None

    assert isinstance(await ending(asyncio.create_task(write_headers())), SlowReader)
    assert not writer._writes


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
    ends_s = writer._writes._ends_s
    [end_s] = ends_s.values()
    writer.drain()
    assert [*ends_s.values()] == [end_s]
    after = await begin(writer, Reader())
    end_s = time.monotonic() + SOON_S
    assert all(written_until_s < end_s for written_until_s in ends_s.values())
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

    assert isinstance(await ending(await begin(writer, Late())), SlowReader)


@pytest.mark.parametrize("client", [Stopped(), Broken()], ids=["stopped", "broken"])
async def test_call_is_cancelled_if_its_status_cannot_be_sent(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_writer, "_STATUS_S", AT_ONCE_S)
    ending = asyncio.create_task(stream_writer.end(client, grpc.StatusCode.UNAVAILABLE, "not read"))
    await asyncio.wait((ending,), timeout=60)
    assert ending.cancelled()
