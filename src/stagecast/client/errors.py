"""The `google.rpc` error details in the trailing metadata of a failed call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorDetails:
    """Why a call failed.

    `reason` is one of those in the protos, empty if the error did not come from stagecast;
    `retry_after_s` is `None` if a retry would not help.
    """

    reason: str
    metadata: dict[str, str]
    retry_after_s: float | None


def details_of(error: aio.AioRpcError) -> ErrorDetails:
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


def _seconds(delay: Duration) -> float:
    return delay.seconds + delay.nanos / 1e9


def _status(error: aio.AioRpcError) -> Status:
    for key, value in error.trailing_metadata():
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
