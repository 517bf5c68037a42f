"""The door that calls of our own services come in by: the gate, then credentials.

Health and reflection stay outside, so that orchestrators and `grpcurl` need no key.
"""

from __future__ import annotations

import contextlib
import logging
from contextvars import ContextVar

from stagecast.auth import Authenticator, bearer_of
from stagecast.model import Caller, Scope, Visibility
from stagecast.rpc.in_flight import InFlightCalls
from stagecast.rpc.stream_writer import Context

_SCOPES = {
    "stagecast.v1.StatusService": Scope.READ,
    "stagecast.v1.ReportService": Scope.REPORT,
    "stagecast.v1.ControlService": Scope.CONTROL,
}

# Every call is a task of its own, and so has a value of its own.
_caller: ContextVar[Caller] = ContextVar("caller")


class _Secrecy(logging.Filter):
    """Drops what grpc logs of a header that is not UTF-8: the whole of it, which may be a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Invalid encoding")


logging.getLogger("grpc._cython.cygrpc").addFilter(_Secrecy())


class Authentication:
    """Lets calls in.

    Args:
        gate: closed when the server drains.
        authenticator: says who calls.
    """

    def __init__(self, in_flight: InFlightCalls, authenticator: Authenticator) -> None:
        self._in_flight = in_flight
        self._authenticator = authenticator

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Be inside for as long as the block, which also tells who may not come in."""
        return self._in_flight.inside()

    def until_over(self) -> contextlib.AbstractAsyncContextManager[None]:
        """End the block with `Draining` when there is no more time for calls under way."""
        return self._in_flight.until_over()

    def admit(self, method: str, context: Context) -> Caller:
        """Let a call of our own services begin; return who calls, as `caller()` does from then on.

        Raises:
            Draining: the gate is closed.
            CredentialsError, DeniedError: the caller may not.
        """
        self._in_flight.check()
        scope = _SCOPES[method.split("/")[1]]
        admitted = self._authenticator.admit(_credentials(context), scope)
        _caller.set(admitted)
        return admitted


def caller() -> Caller:
    """Return who makes the call that is being answered."""
    return _caller.get()


def visible() -> Visibility:
    """Return which datasets exist for them."""
    return caller().visible


def _credentials(context: Context) -> list[str]:
    """Return what the caller has given; what is no `Bearer` is as good as a bad key."""
    credentials = []
    for key, value in context.invocation_metadata() or ():
        text = "" if isinstance(value, bytes) else value  # it is not UTF-8, and so no key
        if key == "x-api-key":
            credentials.append(text.strip(" \t"))
        elif key == "authorization":
            credentials.append(bearer_of(text) or "")
    return credentials
