"""Failed calls: the `google.rpc` details in their trailing metadata, and the errors they become."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from stagecast import errors
from stagecast.client.causes import describe_failure
from stagecast.client.endpoint import Endpoint

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


def error_of(call: FailedCall, endpoint: Endpoint) -> errors.StagecastError:
    """Return the error for a failed call."""
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
    return errors.restored(kind, text, attributes)


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
