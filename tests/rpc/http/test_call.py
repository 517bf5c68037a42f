"""A call over HTTP without a server: its body, its client, its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stagecast.asgi import ON_DISCONNECT
from stagecast.errors import FieldInvalid
from stagecast.rpc.http.call import HttpCall
from stagecast.rpc.http.method import Method
from stagecast.rpc.http.unary import UnaryCall
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss


async def test_request_that_is_cut_short_is_not_a_smaller_one() -> None:
    """What was received of a binary request may be a whole one with fewer fields."""
    received = iter(
        [
            {"type": "http.request", "body": b"\n\x01a", "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> Any:
        return next(received)

    async def send(_: object) -> None:
        raise AssertionError

    async def run(_: object, call: HttpCall) -> bytes:
        return await call.read()

    method = Method(run=run, request=ss.GetBatchRequest, response=r.Batch, streams=False)
    scope = {"headers": [(b"content-type", b"application/proto")]}
    with pytest.raises(FieldInvalid, match="incomplete"):
        await UnaryCall(method, scope, receive, send, max_bytes=99).run()


@pytest.mark.parametrize(
    ("client", "peer"),
    [
        (("192.0.2.7", 80), "ipv4:192.0.2.7:80"),
        (("2001:db8::1", 80), "ipv6:%5B2001:db8::1%5D:80"),
        (None, "unix:"),
    ],
)
async def test_peer_of_a_call_is_written_as_grpc_writes_it(client: Any, peer: str) -> None:
    async def unused(*_: object) -> Any:
        raise AssertionError

    method = Method(run=unused, request=ss.GetBatchRequest, response=r.Batch, streams=False)
    scope = {"headers": [], "client": client}
    assert UnaryCall(method, scope, unused, unused, max_bytes=99).peer() == peer


@pytest.mark.parametrize("stops", [False, True])
async def test_lost_client_does_not_hide_that_the_server_cancels_the_call(stops: bool) -> None:
    begun = asyncio.Event()

    async def hang(*_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def unused(*_: object) -> Any:
        raise AssertionError

    method = Method(run=hang, request=ss.GetBatchRequest, response=r.Batch, streams=False)
    scope: dict[str, Any] = {"headers": []}

    async def serve() -> None:
        await UnaryCall(method, scope, unused, unused, max_bytes=99).run()

    task = asyncio.create_task(serve())
    await begun.wait()
    scope["state"][ON_DISCONNECT]()
    if stops:
        task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled() is stops
