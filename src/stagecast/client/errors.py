"""Failed calls: the `google.rpc` details in their trailing metadata, and the errors they become."""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from stagecast import errors
from stagecast.client.datasets import with_name
from stagecast.client.endpoint import Endpoint
from stagecast.failures import reason_of

M = TypeVar("M", bound=Message)

# Of a server that knows more reasons than this client, or that did not give one.
_BY_CODE: dict[grpc.StatusCode, type[errors.StagecastError]] = {
    grpc.StatusCode.UNAUTHENTICATED: errors.CredentialsError,
    grpc.StatusCode.PERMISSION_DENIED: errors.DeniedError,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: errors.ExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.RefusedError,
    grpc.StatusCode.OUT_OF_RANGE: errors.HistoryError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ExhaustedError,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
}
# What a client cannot tell from a server that is away.
_AWAY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
_RETRY_AFTER_S = 1.0  # for a server that is away


_NOT_REACHED = re.compile("failed to connect|errors resolving")
_HTTP_STATUS = re.compile(r"Received http2 :?(?:status )?header with status: (\d+)")
_BROKEN_OFF = re.compile(
    "^(Socket closed|Stream removed|No status received|Stream refused by server)"
    "|GOAWAY|RST_STREAM|Connection reset by peer|Broken pipe|(keepalive|ping).*timeout",
    re.IGNORECASE,
)

# Error texts of grpc, and what they mean; a question where the cause is not certain. The options
# are those of a command, or arguments.
_CAUSES = {
    "CERTIFICATE_VERIFY_FAILED: ([a-z ]+)": r": its certificate is not trusted (\1)",
    "Hostname Verification Check": ": its certificate is for another host",
    "WRONG_VERSION_NUMBER": ": it does not use TLS; leave out {tls}, {ca} and {cert}",
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
    False: ": it closed the connection; does it require TLS ({tls} or {ca}), or a client "
    "certificate ({cert})?",
    True: ": it closed the connection; does it require a client certificate ({cert}), or another?",
}


class FailedCall(Protocol):
    """What errors of both kinds of channels have."""

    def code(self) -> grpc.StatusCode:
        """Return the status code."""
        ...

    def details(self) -> str | None:
        """Return the message."""
        ...

    def trailing_metadata(self) -> Any:  # noqa: ANN401 - pairs, of a type of each channel
        """Return the metadata that came with the status."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorDetails:
    """Why a call failed.

    `reason` is one of those in the protos, empty if the error did not come from stagecast;
    `retry_after_s` is `None` if a retry would not help.
    """

    reason: str
    metadata: dict[str, str]
    retry_after_s: float | None


def details_of(error: FailedCall) -> ErrorDetails:
    """Return the details of an error that a call raised."""
    status = _status(error)
    info = _first(status, ErrorInfo())
    retry = _first(status, RetryInfo())
    if info is None or info.domain != "stagecast":
        info = ErrorInfo()
    return ErrorDetails(
        reason=info.reason,
        metadata=dict(info.metadata),
        retry_after_s=max(0.0, _seconds(retry.retry_delay)) if retry else None,
    )


def error_of(
    call: FailedCall, endpoint: Endpoint, dataset: str | uuid.UUID | None = None
) -> errors.StagecastError:
    """Return the error for a failed call; its text names the dataset as the caller did."""
    known, code, text = details_of(call), call.code(), call.details() or ""
    kind = _class_of(known.reason, code)
    reason = known.reason or ("UNAVAILABLE" if kind is errors.Unavailable else code.name)
    attributes: dict[str, Any] = {"reason": reason, "metadata": known.metadata}
    if not known.reason:
        text = describe_failure(code, text, endpoint.address, tls=endpoint.tls)
    if issubclass(kind, errors.CredentialsMissing):
        text = f"{endpoint.address} requires a key or token; pass key or set STAGECAST_KEY"
    if issubclass(kind, errors.InvalidError):
        field = known.metadata.get("field", "")
        attributes |= {"field": field, "rule": text.removeprefix(f"{field}: ")}
    if issubclass(kind, errors.RetryableError):
        retry_after_s = known.retry_after_s
        attributes["retry_after_s"] = _RETRY_AFTER_S if retry_after_s is None else retry_after_s
    return errors.restored(kind, with_name(text, dataset), attributes)


def describe_failure(
    code: grpc.StatusCode, details: str, address: str, *, tls: bool, flags: str = ""
) -> str:
    """Return a sentence for the status of a call.

    Args:
        code: of the status.
        details: of the status.
        address: of the server.
        tls: whether the call was made with TLS.
        flags: what comes before the names of options, such as `--`.
    """
    if code is grpc.StatusCode.UNAVAILABLE and _NOT_REACHED.match(details):
        return f"cannot reach {address}{_cause(details, tls=tls, flags=flags)}"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer from {address} in time"
    if answered := _HTTP_STATUS.search(details):
        return f"{address} answered with HTTP status {answered[1]} instead of gRPC; is it a proxy?"
    if code is not grpc.StatusCode.CANCELLED and _BROKEN_OFF.search(details):
        return f"the connection to {address} ended before the answer was complete"
    # Not 'answered': the client library makes some of these itself.
    return f"the call to {address} failed with {code.name}: {details}"


def _cause(details: str, *, tls: bool, flags: str) -> str:
    if os.strerror(errno.EMFILE) in details:
        return f": {reason_of(OSError(errno.EMFILE, details))}"
    options = {name: flags + name for name in ("tls", "ca", "cert")}
    for pattern, cause in _CAUSES.items():
        if match := re.search(pattern, details):
            return match.expand(cause.format(**options))
    return _CLOSED[tls].format(**options) if "Socket closed" in details else ""


def _class_of(reason: str, code: grpc.StatusCode) -> type[errors.StagecastError]:
    if reason:
        return _BY_REASON.get(reason) or _BY_CODE.get(code, errors.CallFailed)
    return errors.Unavailable if code in _AWAY else errors.CallFailed


def _classes(base: type[errors.StagecastError]) -> Iterator[type[errors.StagecastError]]:
    yield base
    for child in base.__subclasses__():
        yield from _classes(child)


_BY_REASON = {
    kind.reason: kind for kind in _classes(errors.StagecastError) if "reason" in vars(kind)
}


def _seconds(delay: Duration) -> float:
    return delay.seconds + delay.nanos / 1e9


def _status(error: FailedCall) -> Status:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                return Status.FromString(value)
            except DecodeError:  # not written by stagecast
                break
    return Status()


def _first(status: Status, detail: M) -> M | None:
    for packed in status.details:
        try:
            if packed.Unpack(detail):
                return detail
        except DecodeError:  # not written by stagecast
            continue
    return None
