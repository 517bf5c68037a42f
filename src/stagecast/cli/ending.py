"""How a command that talks to a server ends: exit codes, and one line where it cannot go on."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator

import click
import grpc
from grpc import aio

from stagecast.client import details_of
from stagecast.escaping import escape_for

INTERRUPTED = 130  # what shells say of a program that Ctrl-C ended


class Unusable(click.ClickException):
    """The command could not do its work: no server, or nothing of what was asked for."""

    exit_code = 2


@contextlib.contextmanager
def told_in_one_line(address: str) -> Iterator[None]:
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
        raise Unusable(describe(error, address)) from error
    except BaseExceptionGroup as group:
        first = _first(group)
        if isinstance(first, aio.AioRpcError):
            raise Unusable(describe(first, address)) from first
        raise first from None


def describe(error: aio.AioRpcError, address: str) -> str:
    """Return what to tell people of a call that failed."""
    reason = details_of(error).reason
    if reason == "CREDENTIALS_MISSING":
        return f"{address} wants a key: --key or STAGECAST_KEY ({reason})"
    if reason:
        # What the server says names ids as they are.
        details = escape_for(error.details() or "", sys.stderr.encoding or "utf-8")
        return f"{details} ({reason})"
    details = error.details() or ""
    if error.code() is grpc.StatusCode.UNAVAILABLE and _NOT_REACHED.match(details):
        return f"cannot reach {address}{_why(details)}"
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer from {address} in time"
    # Not 'answered': some of these are grpc's own.
    return f"the call to {address} failed with {error.code().name}: {details}"


_NOT_REACHED = re.compile("failed to connect|errors resolving")

# What grpc says, and what that means; where it may mean several things, they are asked.
_WHYS = {
    "CERTIFICATE_VERIFY_FAILED: ([a-z ]+)": r": its certificate is not trusted (\1)",
    "Hostname Verification Check": ": its certificate is for another host",
    "WRONG_VERSION_NUMBER": ": what answers there speaks no TLS; leave out --tls, --ca and --cert",
    "Failed parsing HTTP/2|ALPN": ": what answers there does not speak gRPC; is it the server's "
    "HTTP port?",
    "failed to connect.*Socket closed": ": it hung up at once; does it want TLS (--ca or --tls), "
    "or a certificate of yours (--cert)?",
    r"HTTP proxy returned response code (\d+)": r": the proxy that the environment names says \1",
    "Domain name not found|Name or service not known": ": there is no such host",
    "lookup failed": ": its name cannot be looked up",
    "error: No such file or directory": ": there is no such file",
    "error: Permission denied": ": permission denied",
}


def _why(details: str) -> str:
    for said, why in _WHYS.items():
        if found := re.search(said, details):
            return found.expand(why)
    return ""


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
