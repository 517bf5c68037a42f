"""Handlers behind the interceptor, on a server that has nothing else."""

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
from stagecast.rpc.authentication import Authentication
from stagecast.rpc.in_flight import InFlightCalls
from stagecast.rpc.interceptor import CallInterceptor, abort
from stagecast.rpc.limits import Limits
from stagecast.rpc.request_reader import RequestReader
from stagecast.rpc.stream_writer import Context, StreamWriter
from stagecast.rpc.unread_answers import UnreadAnswers
from tests.grpc_calls import unary_stream
from tests.rpc.calls import refused

SOON_S = 60.0


@contextlib.asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[aio.Channel]:
    """Serve a method `/test.Test/Call` of this server stream; yield a channel to it."""
    no_authenticator: Authenticator = None  # type: ignore[assignment]  # of no use to foreign services
    interceptor = CallInterceptor(
        Authentication(InFlightCalls(), no_authenticator),
        RequestReader(timeout_s=SOON_S, limit=10, end=abort),
        StreamWriter(SOON_S, draining_s=SOON_S),
        UnreadAnswers(SOON_S, max_bytes=1_000),
        Limits(Config()),
        store_s=SOON_S,
    )
    server = aio.server(interceptors=[interceptor])
    handlers = {
        "Call": grpc.unary_stream_rpc_method_handler(
            handler, Empty.FromString, Empty.SerializeToString
        )
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
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
