"""How a client command fails: one line, and an exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import click
from grpc import aio

from stagecast.client import details_of
from stagecast.client.datasets import with_name
from stagecast.client.errors import describe_failure
from stagecast.escaping import encoding_of, escape_for
from stagecast.runtime.exits import INTERRUPTED, CommandFailed


@contextlib.contextmanager
def reported_in_one_line(address: str, *, tls: bool, dataset: str | None = None) -> Iterator[None]:
    """Turn errors of calls, and Ctrl-C, into the end of the command.

    Args:
        address: of the server.
        tls: whether calls are made with TLS.
        dataset: as the user named it.

    Raises:
        CommandFailed: a call failed.
        click.exceptions.Exit: Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except aio.AioRpcError as error:
        raise CommandFailed(describe(error, address, tls=tls, dataset=dataset)) from error
    except BaseExceptionGroup as group:
        first = _first(group)
        if isinstance(first, aio.AioRpcError):
            raise CommandFailed(describe(first, address, tls=tls, dataset=dataset)) from first
        raise first from None


def describe(error: aio.AioRpcError, address: str, *, tls: bool, dataset: str | None = None) -> str:
    """Return a message for a failed call; for the arguments see `reported_in_one_line`."""
    reason = details_of(error).reason
    if reason == "CREDENTIALS_MISSING":
        return f"{address} requires a key or token; set --key or STAGECAST_KEY ({reason})"
    if reason:
        # Messages of the server have unescaped ids.
        details = with_name(error.details() or "", dataset)
        details = escape_for(details, encoding_of(sys.stderr))
        return f"{details} ({reason})"
    code, details = error.code(), error.details() or ""
    return describe_failure(code, details, address, tls=tls, flags="--")


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
