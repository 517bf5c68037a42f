"""Authentication of calls to our own services.

Health and reflection are exempt, so that orchestrators and `grpcurl` need no key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial

from stagecast.auth import Authenticator, bearer_of
from stagecast.model import Caller, Scope, Visibility
from stagecast.rpc.running_calls import Context, RunningCall, RunningCalls

SCOPES = {
    "stagecast.v1.StatusService": Scope.READ,
    "stagecast.v1.ReportService": Scope.REPORT,
    "stagecast.v1.ControlService": Scope.CONTROL,
}

# Every call is a task, and so has its own value.
_call: ContextVar[RunningCall | None] = ContextVar("call")


class _HeaderFilter(logging.Filter):
    """Drops the log line of grpc that shows a whole header that is not UTF-8: it may be a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Invalid encoding")


logging.getLogger("grpc._cython.cygrpc").addFilter(_HeaderFilter())


def admission(
    service: str, running: RunningCalls, authenticator: Authenticator
) -> Callable[[RunningCall], Caller]:
    """Return a function that admits a call to one of our own services, and returns its caller.

    It raises `Draining`, and after that `CredentialsError` or `DeniedError`.
    """
    scope = SCOPES[service]

    def admit(call: RunningCall) -> Caller:
        running.check()
        call.caller = authenticator.admit(partial(_credentials, call.context), scope)
        _call.set(call)
        return call.caller

    return admit


def release_call() -> None:
    """Forget the current call: it refers to its task, and that to this variable."""
    _call.set(None)


def admitted_call() -> RunningCall:
    """Return the current call."""
    call = _call.get()
    if call is None:
        raise AssertionError("no call is admitted")
    return call


def visible() -> Visibility:
    """Return the datasets that are visible to the current caller."""
    return admitted_call().caller.visible


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
