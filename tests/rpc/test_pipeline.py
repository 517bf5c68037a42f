"""The steps of calls, on a server that has nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from grpc import aio

from stagecast.auth import Authenticator
from stagecast.config import Config
from stagecast.errors import Draining
from stagecast.rpc.pipeline import Pipeline
from stagecast.rpc.running_calls import Context
from tests.grpc_calls import unary_stream
from tests.rpc.calls import refused


@contextlib.asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[aio.Channel]:
    """Serve a method `/test.Test/Call` of this server stream; yield a channel to it."""
    no_authenticator: Authenticator = None  # type: ignore[assignment]  # of no use to this service
    server = aio.server()
    method = grpc.unary_stream_rpc_method_handler(
        handler, Empty.FromString, Empty.SerializeToString
    )
    pipeline = Pipeline(server, Config(), no_authenticator)
    pipeline.add_registered_method_handlers("test.Test", {"Call": method})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)


async def yielding(request: Empty, context: Context) -> AsyncGenerator[Empty | bytes]:
    yield request
    yield b"encoded"
    raise Draining("over", retry_after_s=1.0)


async def writing(request: Empty, context: Context) -> None:
    await context.write(request)
    await context.write(b"encoded")
    raise Draining("over", retry_after_s=1.0)


@pytest.mark.parametrize("handler", [yielding, writing])
async def test_stream_handler_yields_its_messages_or_writes_by_itself(handler: Any) -> None:
    async with serving(handler) as channel:
        call = unary_stream(channel, "/test.Test/Call")(b"")
        assert [await call.read(), await call.read()] == [b"", b"encoded"]
        assert (await refused(call.read())).reason == "DRAINING"
