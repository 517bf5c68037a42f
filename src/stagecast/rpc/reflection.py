"""`grpc.reflection`: both versions, so that every tool discovers the services.

grpcio-reflection serves v1alpha. The messages of v1 are the same, so its servicer answers for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import grpc
from google.protobuf import text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool
from grpc import aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

T = TypeVar("T")

_V1ALPHA = reflection.SERVICE_NAME
_V1 = "grpc.reflection.v1.ServerReflection"


def add_reflection(server: aio.Server, services: Iterable[str]) -> None:
    """Serve reflection for the services and for itself."""
    servicer = reflection.aio.ReflectionServicer((*services, _V1ALPHA, _V1), pool=_Pool())
    handlers: dict[str, Any] = {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }
    for name in (_V1ALPHA, _V1):
        server.add_registered_method_handlers(name, handlers)


class _Pool:
    """The descriptors of this process and of reflection v1, with RPCs found by their full names.

    Python's pool finds files by messages, enums and services only, but people describe RPCs.
    """

    def __init__(self) -> None:
        self._pool = Default()
        self._v1 = _make_v1()

    def FindFileByName(self, name: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        return self._find(lambda pool: pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        try:
            return self._find(lambda pool: pool.FindFileContainingSymbol(symbol))
        except KeyError:
            service, _, _ = symbol.rpartition(".")
            return self._find(lambda pool: pool.FindServiceByName(service)).file

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the pool has
        return getattr(self._pool, name)

    def _find(self, find: Callable[[DescriptorPool], T]) -> T:
        try:
            return find(self._pool)
        except KeyError:
            return find(self._v1)


def _make_v1() -> DescriptorPool:
    """Return a pool with the file of v1: that of v1alpha, renamed."""
    v1alpha = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(v1alpha)
    text = text_format.MessageToString(v1alpha).replace("v1alpha", "v1")
    pool = DescriptorPool()
    pool.Add(text_format.Parse(text, FileDescriptorProto()))
    return pool
