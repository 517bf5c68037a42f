"""How a command that talks to a server ends: exit codes, and one line where it cannot go on."""

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
from stagecast.runtime.exits import INTERRUPTED, Unusable


@contextlib.contextmanager
def reported_in_one_line(address: str, *, tls: bool) -> Iterator[None]:
    """Turn what calls to a server raise, and Ctrl-C, into the end of the command.

    Raises:
        Unusable: a call failed.
        click.exceptions.Exit: Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except aio.AioRpcError as error:
        raise Unusable(describe(error, address, tls=tls)) from error
    except BaseExceptionGroup as group:
        first = _first(group)
        if isinstance(first, aio.AioRpcError):
            raise Unusable(describe(first, address, tls=tls)) from first
        raise first from None


def describe(error: aio.AioRpcError, address: str, *, tls: bool) -> str:
    """Return what to tell people of a call that failed; `tls` is whether it was made with TLS."""
    reason = details_of(error).reason
    if reason == "CREDENTIALS_MISSING":
        return f"{address} wants a key: --key or STAGECAST_KEY ({reason})"
    if reason:
        # What the server says names ids as they are.
        details = escape_for(error.details() or "", encoding_of(sys.stderr))
        return f"{details} ({reason})"
    details = error.details() or ""
    if error.code() is grpc.StatusCode.UNAVAILABLE and _NOT_REACHED.match(details):
        return f"cannot reach {address}{_why(details, tls=tls)}"
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer from {address} in time"
    if answered := _HTTP_STATUS.search(details):
        return f"{address} answered with HTTP status {answered[1]} and no gRPC, as proxies do"
    if error.code() is not grpc.StatusCode.CANCELLED and _BROKEN_OFF.search(details):
        return f"the connection to {address} ended before the answer was complete"
    # Not 'answered': some of these are grpc's own.
    return f"the call to {address} failed with {error.code().name}: {details}"


_NOT_REACHED = re.compile("failed to connect|errors resolving")

_HTTP_STATUS = re.compile(r"Received http2 :?(?:status )?header with status: (\d+)")
_BROKEN_OFF = re.compile(
    "^(Socket closed|Stream removed|No status received|Stream refused by server)"
    "|GOAWAY|RST_STREAM|Connection reset by peer|Broken pipe|(keepalive|ping).*timeout",
    re.IGNORECASE,
)

# What grpc says, and what that means; where it may mean several things, they are asked.
_WHYS = {
    "CERTIFICATE_VERIFY_FAILED: ([a-z ]+)": r": its certificate is not trusted (\1)",
    "Hostname Verification Check": ": its certificate is for another host",
    "WRONG_VERSION_NUMBER": ": what answers there speaks no TLS; leave out --tls, --ca and --cert",
    r"Failed parsing HTTP/2|http1\.x server|ALPN": (
        ": what answers there does not speak gRPC; is it the server's HTTP port?"
    ),
    r"HTTP proxy returned response code (\d+)": r": the proxy that the environment names says \1",
    "Domain name not found|Name or service not known": ": there is no such host",
    "lookup failed": ": its name cannot be looked up",
    "error: No such file or directory": ": there is no such file",
    "error: Permission denied": ": permission denied",
}


_HUNG_UP = {
    False: ": it hung up at once; does it want TLS (--ca or --tls), or a certificate of yours "
    "(--cert)?",
    True: ": it hung up at once; does it want a certificate of yours (--cert), or another one?",
}


def _why(details: str, *, tls: bool) -> str:
    if os.strerror(errno.EMFILE) in details:
        return f": {reason_of(OSError(errno.EMFILE, details))}"
    for said, why in _WHYS.items():
        if match := re.search(said, details):
            return match.expand(why)
    return _HUNG_UP[tls] if "Socket closed" in details else ""


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
