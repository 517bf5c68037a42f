"""gRPC calls with the types that are missing in the stubs of the libraries."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

_Message = TypeVar("_Message")


class HealthStub(health_pb2_grpc.HealthStub):
    """The stub of the library, with the types of its RPCs."""

    Check: aio.UnaryUnaryMultiCallable[
        health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
    ]
    Watch: aio.UnaryStreamMultiCallable[
        health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
    ]


def unary_unary(channel: aio.Channel, method: str) -> aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """Return a method from bytes to bytes."""
    return channel.unary_unary(method)


def unary_stream(channel: aio.Channel, method: str) -> aio.UnaryStreamMultiCallable[bytes, bytes]:
    """Return a method from bytes to a stream of bytes."""
    return channel.unary_stream(method)


def stream_stream(channel: aio.Channel, method: str) -> aio.StreamStreamMultiCallable[bytes, bytes]:
    """Return a method from a stream of bytes to another."""
    return channel.stream_stream(method)


async def read(call: aio.UnaryStreamCall[Any, _Message]) -> _Message:
    """Return the next message of a stream that has not ended."""
    message = await call.read()
    assert message is not aio.EOF, "the stream has ended"
    return cast("_Message", message)  # `aio.EOF` has the type `object` in the stubs
