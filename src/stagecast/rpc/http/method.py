"""An RPC as the HTTP face knows it: its steps, and the types of its messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

Run = Callable[[Any, Any], Awaitable[Any]]
"""The steps of a call, with grpc's arguments: the request, which is read later, and the context.

They return the encoded answer, or `None` after a stream."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """An RPC.

    Attributes:
        run: the steps of a call, which return the encoded answer or write the stream.
        request, response: the classes of its messages.
        streams: whether it answers with a stream.
    """

    run: Run
    request: type[Message]
    response: type[Message]
    streams: bool


def find_methods(runs: Mapping[str, Run]) -> dict[str, Method]:
    """Return RPCs by their paths, such as `/stagecast.v1.StatusService/GetBatch`."""
    return {path: _find_method(path, run) for path, run in runs.items()}


def _find_method(path: str, run: Run) -> Method:
    _, service, name = path.split("/")
    descriptor = Default().FindServiceByName(service).methods_by_name[name]
    return Method(
        run=run,
        request=GetMessageClass(descriptor.input_type),
        response=GetMessageClass(descriptor.output_type),
        streams=descriptor.server_streaming,
    )
