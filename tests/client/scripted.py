"""A small server that follows a script: the messages of each call, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

from stagecast.client import Stubs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from stagecast.v1.status_service_pb2_grpc import (
    StatusServiceServicer,
    add_StatusServiceServicer_to_server,
)

Code = grpc.StatusCode
Context = aio.ServicerContext[Any, Any]
Ending = Callable[[Context], Awaitable[None]]
Step = Callable[[Context], AsyncGenerator[s.WatchBatchResponse]]

REQUEST = s.WatchBatchRequest(dataset_id="d", batch_id="b", follow=True, transitions_only=True)
CALLER_TOKEN = "mine"  # noqa: S105 - no secret, and not a valid resume token
REFUSALS = (
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.OUT_OF_RANGE,
    Code.PERMISSION_DENIED,
    Code.INTERNAL,
    Code.UNIMPLEMENTED,
)


class ScriptedServer(StatusServiceServicer):
    """Answers each call with the next step of the script; without one, with INTERNAL.

    Attributes:
        requests: of all calls.
        began, ended: times of each call, by the loop's clock.
        cancelled: set when a call was cancelled.
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = iter(steps)
        self.requests: list[s.WatchBatchRequest] = []
        self.began: list[float] = []
        self.ended: list[float] = []
        self.cancelled = asyncio.Event()

    async def WatchBatch(  # noqa: N802 - the proto's name
        self, request: s.WatchBatchRequest, context: Context
    ) -> AsyncGenerator[s.WatchBatchResponse]:
        now = asyncio.get_running_loop().time
        self.requests.append(request)
        self.began.append(now())
        step = next(self._steps, sends(then=aborts(Code.INTERNAL)))
        try:
            async for message in step(context):
                yield message
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.ended.append(now())

    @property
    def tokens(self) -> list[str]:
        """The resume tokens of all requests."""
        return [request.resume_token for request in self.requests]


def sends(*messages: s.WatchBatchResponse, then: Ending | None = None) -> Step:
    """Send messages, then end with `then`, or with OK."""

    async def step(context: Context) -> AsyncGenerator[s.WatchBatchResponse]:
        for message in messages:
            yield message
        if then is not None:
            await then(context)

    return step


def aborts(code: grpc.StatusCode, *, retry_after_s: float | None = None) -> Ending:
    """End with a code, and optionally a retry delay."""
    status = Status(code=code.value[0])
    if retry_after_s is not None:
        advice = RetryInfo()
        advice.retry_delay.FromMilliseconds(round(retry_after_s * 1_000))
        status.details.append(_packed(advice))
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)

    async def end(context: Context) -> None:
        await context.abort(code, "on purpose", trailing_metadata=metadata)

    return end


def _packed(detail: RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


async def accepts_and_hangs(context: Context) -> None:
    """Send the initial metadata, then hang."""
    await context.send_initial_metadata(())
    await hangs(context)


async def hangs(_context: Context) -> None:
    """Hang until the call is cancelled."""
    await asyncio.Event().wait()


breaks = aborts(Code.UNAVAILABLE)


@contextlib.asynccontextmanager
async def serving(*steps: Step, always: Step | None = None) -> AsyncIterator[Scripted]:
    """Serve a script for the block; `always` is repeated after the other steps."""
    played = itertools.chain(steps, itertools.repeat(always) if always else ())
    script = ScriptedServer(played)  # type: ignore[abstract]  # in its stub; others are UNIMPLEMENTED
    server = aio.server()
    add_StatusServiceServicer_to_server(script, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Stubs(f"127.0.0.1:{port}") as client, asyncio.timeout(240):
            yield Scripted(script, server, client, f"127.0.0.1:{port}")
    finally:
        await server.stop(None)


class Scripted:
    """A script, its server with its address, and a client."""

    def __init__(
        self, script: ScriptedServer, server: aio.Server, client: Stubs, address: str
    ) -> None:
        self.script = script
        self.server = server
        self.client = client
        self.address = address

    def watch(
        self, *, give_up_after_s: float = 60.0
    ) -> contextlib.aclosing[AsyncGenerator[s.WatchBatchResponse]]:
        """Watch, and close the watch at the end of the block."""
        return contextlib.aclosing(
            self.client.watch(REQUEST, give_up_after_s=give_up_after_s),
        )

    async def received(self, **fields: Any) -> list[s.WatchBatchResponse]:
        """Watch to the end, and return the messages."""
        async with self.watch(**fields) as messages:
            return [message async for message in messages]

    async def until_error(self, **fields: Any) -> tuple[list[str], aio.AioRpcError]:
        """Watch until an error; return the tokens of the messages, and the error."""
        tokens: list[str] = []
        async with self.watch(**fields) as messages:
            try:
                async for message in messages:
                    tokens.append(message.resume_token)  # noqa: PERF401 - needed after an error
            except aio.AioRpcError as error:
                return tokens, error
        raise AssertionError(f"ended without an error after {tokens}")


def whole(revision: int) -> s.WatchBatchResponse:
    """Return a message with one transition and the token `t<revision>`."""
    message = part(revision)
    message.resume_token = f"t{revision}"
    message.batch.revision = revision
    return message


def part(revision: int) -> s.WatchBatchResponse:
    """Return a message with one transition and no token."""
    return s.WatchBatchResponse(transitions=[r.Transition(revision=revision)], revision=revision)


def snapshot_part(*document_ids: str, complete: bool = False) -> s.WatchBatchResponse:
    """Return a part of a snapshot as of revision 7; the last has the token `t7`."""
    documents = [r.Document(document_id=document_id) for document_id in document_ids]
    return s.WatchBatchResponse(
        snapshot=s.Snapshot(
            reason=s.SNAPSHOT_REASON_INITIAL, documents=documents, complete=complete
        ),
        revision=7,
        resume_token="t7" if complete else "",
        batch=r.Batch(revision=7) if complete else None,
    )


def revisions(messages: Iterable[s.WatchBatchResponse]) -> list[list[int]]:
    """Return the revisions of the transitions, message by message."""
    return [[transition.revision for transition in m.transitions] for m in messages]


# Messages and their parts.
