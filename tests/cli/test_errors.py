"""Failed commands print one line; it names a cause only if that is known."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc import aio

from stagecast.cli.errors import describe
from tests.cli.command import stagecast


def description(code: grpc.StatusCode, details: str, *, tls: bool = False) -> str:
    error = aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), details=details)
    return describe(error, "status:1", tls=tls)


FAILED = "failed to connect to all addresses; last error: UNKNOWN: ipv4:192.0.2.1:1: "


@pytest.mark.parametrize(
    ("details", "reported"),
    [
        (
            FAILED + "Failed to connect to remote host: Connection refused",
            "cannot reach status:1: connection refused; is a server running there?",
        ),
        (
            FAILED + "HTTP proxy returned response code 403",
            "cannot reach status:1: the proxy of the environment answered with HTTP status 403",
        ),
        (
            (
                "errors resolving status:1: [field:hostname lookup error:address lookup failed for "
                "status:1: Domain name not found]"
            ),
            "cannot reach status:1: there is no such host",
        ),
        (
            (
                "errors resolving status:1: [field:hostname lookup error:address lookup failed for "
                "status:1: Timeout while contacting DNS servers]"
            ),
            "cannot reach status:1: the host name cannot be looked up",
        ),
        (
            FAILED + "SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: certificate has "
            "expired: OK",
            "cannot reach status:1: its certificate is not trusted (certificate has expired)",
        ),
        *(
            (broken, "the connection to status:1 ended before the answer was complete")
            for broken in (
                "Socket closed",
                "Stream removed",
                "No status received",
                "GOAWAY received",
                "recvmsg:Connection reset by peer",
            )
        ),
        ("too bad", "the call to status:1 failed with UNAVAILABLE: too bad"),
    ],
)
def test_unavailable_server_is_reported_with_its_cause(details: str, reported: str) -> None:
    assert description(grpc.StatusCode.UNAVAILABLE, details) == reported


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.UNAVAILABLE, 502),
        (grpc.StatusCode.UNIMPLEMENTED, 404),
        (grpc.StatusCode.UNKNOWN, 500),
    ],
)
def test_response_of_a_proxy_is_reported(code: grpc.StatusCode, status: int) -> None:
    reported = description(code, f"Received http2 header with status: {status}")
    assert (
        reported == f"status:1 answered with HTTP status {status} instead of gRPC; is it a proxy?"
    )


def test_tls_is_suggested_only_if_it_was_not_used() -> None:
    details = FAILED + "Socket closed"
    assert "does it require TLS" in description(grpc.StatusCode.UNAVAILABLE, details)
    assert "does it require a client certificate" in description(
        grpc.StatusCode.UNAVAILABLE, details, tls=True
    )


def test_status_made_by_the_client_is_not_reported_as_a_response() -> None:
    reported = description(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    assert reported == "no answer from status:1 in time"
    reported = description(grpc.StatusCode.CANCELLED, "Cancelled")
    assert reported == "the call to status:1 failed with CANCELLED: Cancelled"


DATASET = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


@pytest.mark.parametrize(
    "command",
    [("batches",), ("status", DATASET), ("history", DATASET, "b"), ("stop", DATASET, "b")],
    ids=lambda command: command[0],
)
async def test_call_to_a_silent_server_times_out(command: tuple[str, ...]) -> None:
    """It accepts the connection, like a stopped process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "{}:{}".format(*listener.getsockname())
        ended = await stagecast(*command, "--grpc", address, "--timeout", "0.2")
    assert (ended.code, ended.err) == (2, f"Error: no answer from {address} in time\n")


@pytest.fixture
async def other() -> AsyncIterator[str]:
    """The address of a server of another protocol."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-other\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_server_of_another_protocol_is_reported(other: str) -> None:
    ended = await stagecast("batches", "--grpc", other)
    assert ended.code == 2
    assert f"cannot reach {other}: it does not speak gRPC; " in ended.err


class Garbage(grpc.GenericRpcHandler):
    """Answers every call with a malformed message."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        if details.method.endswith("/WatchBatch"):
            return grpc.unary_stream_rpc_method_handler(self._stream)
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, _request: bytes, _context: object) -> bytes:
        return b"\xff\xff\xff"

    async def _stream(self, _request: bytes, _context: object) -> AsyncIterator[bytes]:
        yield b"\xff\xff\xff"


@pytest.fixture
async def garbage() -> AsyncIterator[str]:
    """The address of a server that sends malformed messages."""
    server = aio.server()
    server.add_generic_rpc_handlers((Garbage(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.mark.parametrize(
    "command",
    [("batches",), ("status", DATASET), ("stop", DATASET, "b"), ("watch", DATASET, "b")],
    ids=lambda command: command[0],
)
async def test_malformed_response_is_reported_in_one_line(
    garbage: str, command: tuple[str, ...]
) -> None:
    ended = await stagecast(*command, "--grpc", garbage)
    reported = f"Error: the call to {garbage} failed with INTERNAL: the response cannot be decoded"
    assert (ended.code, ended.out, ended.err) == (2, "", f"{reported}\n")


async def test_missing_unix_socket_is_reported(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/missing"
    ended = await stagecast("batches", "--grpc", address)
    assert (ended.code, ended.err) == (2, f"Error: cannot reach {address}: there is no such file\n")


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("http://127.0.0.1:50051", "; type 127.0.0.1:50051"),
        ("127.0.0.1:0", "use the port in the server's ready line"),
        ("unix:" + "a" * 120, "is too long for a socket"),
    ],
)
async def test_invalid_address_is_refused_with_advice(address: str, advice: str) -> None:
    ended = await stagecast("batches", "--grpc", address)
    assert ended.code == 2
    assert advice in ended.err
