"""Calls that are retried while the server is unavailable."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import grpc
from grpc import aio

from stagecast.client import Backoff, details_of

_CALL_S = 10.0  # the timeout of one try
_TIMEOUT_S = 60.0  # how long a call is retried
_TRANSIENT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # by a server that closed the connection
)

Q = TypeVar("Q")
A = TypeVar("A")


async def call(
    rpc: aio.UnaryUnaryMultiCallable[Q, A], request: Q, *, timeout_s: float = _TIMEOUT_S
) -> A:
    """Make a call, and retry it while the server is unavailable: as it advises, or with backoff.

    Raises:
        grpc.aio.AioRpcError: the call was refused, or the server was unavailable for too long.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    backoff = Backoff()
    while True:
        try:
            return await rpc(request, timeout=_CALL_S)
        except aio.AioRpcError as error:
            if error.code() not in _TRANSIENT or loop.time() >= deadline:
                raise
            advised = details_of(error).retry_after_s
        await backoff.wait(advised)
