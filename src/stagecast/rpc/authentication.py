"""Authentication of calls to our own services.

Health and reflection are exempt, so that orchestrators and `grpcurl` need no key.
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

# Every call is a task, and so has its own value.
_caller: ContextVar[Caller] = ContextVar("caller")


class _HeaderFilter(logging.Filter):
    """Drops the log line of grpc that shows a whole header that is not UTF-8: it may be a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Invalid encoding")


logging.getLogger("grpc._cython.cygrpc").addFilter(_HeaderFilter())


class Authentication:
    """Admits calls: first the drain state, then the credentials.

    Args:
        in_flight: the running calls; closed when the server drains.
        authenticator: identifies callers.
    """

    def __init__(self, in_flight: InFlightCalls, authenticator: Authenticator) -> None:
        self._in_flight = in_flight
        self._authenticator = authenticator

    def track(self) -> contextlib.AbstractContextManager[None]:
        """Count a call as running during the block, in which its errors are answered too."""
        return self._in_flight.track()

    def until_over(self) -> contextlib.AbstractContextManager[None]:
        """End the block with `Draining` when the grace period of a drain is over."""
        return self._in_flight.until_over()

    def admit(self, method: str, context: Context) -> Caller:
        """Admit a call to our own services; return its caller, as `caller()` does afterwards.

        Raises:
            Draining: the server drains.
            CredentialsError, DeniedError: the credentials do not allow the call.
        """
        self._in_flight.check()
        scope = _SCOPES[method.split("/")[1]]
        admitted = self._authenticator.admit(_credentials(context), scope)
        _caller.set(admitted)
        return admitted


def caller() -> Caller:
    """Return the caller of the current call."""
    return _caller.get()


def visible() -> Visibility:
    """Return the datasets that are visible to the current caller."""
    return caller().visible


def _credentials(context: Context) -> list[str]:
    """Return the credentials of a call; another scheme than Bearer counts as an invalid key."""
    credentials = []
    for key, value in context.invocation_metadata() or ():
        text = "" if isinstance(value, bytes) else value  # not UTF-8, so not a key
        if key == "x-api-key":
            credentials.append(text.strip(" \t"))
        elif key == "authorization":
            credentials.append(bearer_of(text) or "")
    return credentials
