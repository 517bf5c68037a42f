"""Channels that connect on the first call: one for event loops, one for threads.

Both have what stubs use, and add the key of the endpoint to every call.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import grpc
from grpc import aio

from stagecast.client.decoding import UnaryCall, decoding_to_none
from stagecast.client.endpoint import Endpoint

_ADVICE = (
    "this process was forked from one that had called stagecast, and gRPC does not survive that: "
    "make the first call after the fork, or start processes with 'spawn' or 'forkserver'"
)
_first_pid: int | None = None  # of the process that opened the first channel


class LazyChannel:
    """A channel for event loops.

    A grpc channel belongs to the event loop that runs when it is created. So there is one per loop,
    created on the first call.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._channels: dict[asyncio.AbstractEventLoop, aio.Channel] = {}

    def unary_unary(self, *method: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401 - as grpc has it
        """Return a unary call."""
        options = decoding_to_none(options)
        call = self._calling(lambda channel: channel.unary_unary(*method, **options))
        limit = {"timeout": self.endpoint.timeout_s}
        return lambda *request, **options: UnaryCall(call(*request, **limit | options))

    def unary_stream(self, *method: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401 - as grpc has it
        """Return a server-streaming call; a message that cannot be decoded is `None`."""
        options = decoding_to_none(options)
        return self._calling(lambda channel: channel.unary_stream(*method, **options))

    def open(self) -> None:
        """Create the channel of the running loop, unless it has an open one.

        Raises:
            RuntimeError: the process was forked from one that has opened a channel.
        """
        loop = asyncio.get_running_loop()
        # Channels of closed loops cannot be used any more. Other threads may have loops as well.
        for other in list(self._channels):
            if other.is_closed():
                self._channels.pop(other, None)
        channel = self._channels.get(loop)
        if channel is None or channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN:
            _check_not_forked()
            self._channels[loop] = self._make()

    async def close(self) -> None:
        """Close the channel of the running loop; later calls on it fail."""
        await self._current().close()

    def check_open(self) -> None:
        """Check that the channel of the running loop is not closed; older grpc waits instead.

        Raises:
            RuntimeError: it is.
        """
        if self._current().get_state() is grpc.ChannelConnectivity.SHUTDOWN:
            raise RuntimeError("the client is closed")

    def _calling(self, on: Callable[[aio.Channel], Callable[..., Any]]) -> Callable[..., Any]:
        def call(request: Any, *, metadata: Any = (), **options: Any) -> Any:  # noqa: ANN401 - as grpc has it
            rpc = on(self._current())
            return rpc(request, metadata=(*(metadata or ()), *self.endpoint.metadata), **options)

        return call

    def _current(self) -> aio.Channel:
        """Return the channel of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._channels:
            self.open()
        return self._channels[loop]

    def _make(self) -> aio.Channel:
        endpoint = self.endpoint
        if endpoint.credentials is None:
            return aio.insecure_channel(endpoint.target, options=endpoint.options)
        return aio.secure_channel(endpoint.target, endpoint.credentials, options=endpoint.options)


class ThreadChannel:
    """A channel for threads, which may share it.

    Raises:
        RuntimeError: by a call after `close`, or in a process that was forked from one that has
            opened a channel.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._pid = 0  # of the process that has opened the channel
        self._closed = False

    def unary_unary(self, *method: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401 - as grpc has it
        """Return a unary call."""
        return self._calling(self._current().unary_unary(*method, **decoding_to_none(options)))

    def unary_stream(self, *method: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401 - as grpc has it
        """Return a server-streaming call."""
        return self._calling(self._current().unary_stream(*method, **decoding_to_none(options)))

    def close(self) -> None:
        """Close the connection; calls under way are cancelled, later ones refused."""
        with self._lock:
            self._closed = True
            if self._channel is not None and self._pid == os.getpid():
                self._channel.close()

    def _calling(self, rpc: Callable[..., Any]) -> Callable[..., Any]:
        metadata = self.endpoint.metadata
        return lambda request, **options: rpc(request, metadata=metadata, **options)

    def _current(self) -> grpc.Channel:
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            if self._channel is None or self._pid != os.getpid():
                _check_not_forked(supported=True)
                self._channel, self._pid = self._make(), os.getpid()
            return self._channel

    def _make(self) -> grpc.Channel:
        endpoint = self.endpoint
        if endpoint.credentials is None:
            return grpc.insecure_channel(endpoint.target, options=endpoint.options)
        return grpc.secure_channel(endpoint.target, endpoint.credentials, options=endpoint.options)


def _check_not_forked(*, supported: bool = False) -> None:
    """Note that this process opens a channel.

    Args:
        supported: whether gRPC works here after a fork if its own support for that is enabled.

    Raises:
        RuntimeError: the process was forked from one that has opened a channel.
    """
    global _first_pid  # a fact about the process
    if _first_pid is None:
        _first_pid = os.getpid()
    enabled = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "").lower() in ("1", "true", "yes", "on")
    if _first_pid != os.getpid() and not (supported and enabled):
        hint = "; or set GRPC_ENABLE_FORK_SUPPORT=1 before it starts" if supported else ""
        raise RuntimeError(_ADVICE + hint)
