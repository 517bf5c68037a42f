"""How a client command fails: one line, and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator

import click
import grpc
from grpc import aio

from stagecast.client import details_of
from stagecast.escaping import encoding_of, escape_for
from stagecast.failures import reason_of
from stagecast.runtime.exits import INTERRUPTED, CommandFailed


@contextlib.contextmanager
def reported_in_one_line(address: str, *, tls: bool) -> Iterator[None]:
    """Turn errors of calls, and Ctrl-C, into the end of the command.

    Raises:
        CommandFailed: a call failed.
        click.exceptions.Exit: Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except aio.AioRpcError as error:
        raise CommandFailed(describe(error, address, tls=tls)) from error
    except BaseExceptionGroup as group:
        first = _first(group)
        if isinstance(first, aio.AioRpcError):
            raise CommandFailed(describe(first, address, tls=tls)) from first
        raise first from None


def describe(error: aio.AioRpcError, address: str, *, tls: bool) -> str:
    """Return a message for a failed call; `tls` says whether it was made with TLS."""
    reason = details_of(error).reason
    if reason == "CREDENTIALS_MISSING":
        return f"{address} requires a key or token; set --key or STAGECAST_KEY ({reason})"
    if reason:
        # Messages of the server have unescaped ids.
        details = escape_for(error.details() or "", encoding_of(sys.stderr))
        return f"{details} ({reason})"
    details = error.details() or ""
    if error.code() is grpc.StatusCode.UNAVAILABLE and _NOT_REACHED.match(details):
        return f"cannot reach {address}{_cause(details, tls=tls)}"
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer from {address} in time"
    if answered := _HTTP_STATUS.search(details):
        return f"{address} answered with HTTP status {answered[1]} instead of gRPC; is it a proxy?"
    if error.code() is not grpc.StatusCode.CANCELLED and _BROKEN_OFF.search(details):
        return f"the connection to {address} ended before the answer was complete"
    # Not 'answered': the client library makes some of these itself.
    return f"the call to {address} failed with {error.code().name}: {details}"


_NOT_REACHED = re.compile("failed to connect|errors resolving")

_HTTP_STATUS = re.compile(r"Received http2 :?(?:status )?header with status: (\d+)")
_BROKEN_OFF = re.compile(
    "^(Socket closed|Stream removed|No status received|Stream refused by server)"
    "|GOAWAY|RST_STREAM|Connection reset by peer|Broken pipe|(keepalive|ping).*timeout",
    re.IGNORECASE,
)

# Error texts of grpc, and what they mean; a question where the cause is not certain.
_CAUSES = {
    "CERTIFICATE_VERIFY_FAILED: ([a-z ]+)": r": its certificate is not trusted (\1)",
    "Hostname Verification Check": ": its certificate is for another host",
    "WRONG_VERSION_NUMBER": ": it does not use TLS; leave out --tls, --ca and --cert",
    r"Failed parsing HTTP/2|http1\.x server|ALPN": (
        ": it does not speak gRPC; is it the server's HTTP port?"
    ),
    r"HTTP proxy returned response code (\d+)": (
        r": the proxy of the environment answered with HTTP status \1"
    ),
    "Domain name not found|Name or service not known": ": there is no such host",
    "lookup failed": ": the host name cannot be looked up",
    "error: No such file or directory": ": there is no such file",
    "error: Permission denied": ": permission denied",
    "Connection refused": ": connection refused; is a server running there?",
}


_CLOSED = {
    False: ": it closed the connection; does it require TLS (--tls or --ca), or a client "
    "certificate (--cert)?",
    True: ": it closed the connection; does it require a client certificate (--cert), or another?",
}


def _cause(details: str, *, tls: bool) -> str:
    if os.strerror(errno.EMFILE) in details:
        return f": {reason_of(OSError(errno.EMFILE, details))}"
    for pattern, cause in _CAUSES.items():
        if match := re.search(pattern, details):
            return match.expand(cause)
    return _CLOSED[tls] if "Socket closed" in details else ""


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
