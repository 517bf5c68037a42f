"""How a command that talks to a server ends: exit codes, and one line where it cannot go on."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import click
import grpc
from grpc import aio

from stagecast.client import details_of

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
        return f"{error.details()} ({reason})"
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return f"cannot reach {address}{_why(error.details() or '')}"
    return f"{address} answered {error.code().name}: {error.details()}"


# What grpc says, and what that means, or may mean.
_WHYS = {
    "CERTIFICATE_VERIFY_FAILED": ": its certificate is not trusted",
    "Hostname Verification Check": ": its certificate is for another host",
    "WRONG_VERSION_NUMBER": ": what answers there speaks no TLS; leave out --tls, --ca and --cert",
    "security handshaker": ": there is no certificate in --ca, or none with its key in --cert and "
    "--cert-key",
    "http1|ALPN": ": what answers there does not speak gRPC; is it the server's HTTP port?",
    "failed to connect.*Socket closed": ": it hung up at once; does it want TLS (--ca or --tls), "
    "or a certificate of yours (--cert)?",
    "lookup failed": ": there is no such host",
}


def _why(details: str) -> str:
    return next((why for said, why in _WHYS.items() if re.search(said, details)), "")


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
