"""A failed call as HTTP shows it: the status and JSON of the Connect protocol, from gRPC's status.

So the one table of `rpc.status` says which code an error has, for HTTP as well.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import grpc
import orjson
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from stagecast.rpc.status import DETAILS_KEY

JSON = (b"content-type", b"application/json")

# Of the Connect protocol.
_STATUSES = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The code, the message and the details of a failed call."""

    code: grpc.StatusCode
    message: str
    details: Sequence[AnyMessage] = ()

    @classmethod
    def of(
        cls,
        code: grpc.StatusCode,
        message: str,
        trailing_metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> Self:
        """Return the failure that grpc would send with this status."""
        encoded = dict(trailing_metadata).get(DETAILS_KEY)
        details = Status.FromString(encoded).details if isinstance(encoded, bytes) else ()
        return cls(code=code, message=message, details=details)

    @property
    def name(self) -> str:
        """The code as the Connect protocol spells it."""
        name = self.code.name.lower()
        return "canceled" if name == "cancelled" else name

    @property
    def status(self) -> int:
        """The HTTP status."""
        return _STATUSES[self.code]

    @property
    def reason(self) -> str:
        """The reason, such as `BATCH_NOT_FOUND`; empty if it has none."""
        info = self._find(ErrorInfo())
        return info.reason if info else ""

    @property
    def retry_after_ms(self) -> int | None:
        """After how many milliseconds the client may try again, if it may."""
        info = self._find(RetryInfo())
        return info.retry_delay.ToMilliseconds() if info else None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of the response."""
        headers = [JSON]
        if self.code is grpc.StatusCode.UNAUTHENTICATED:
            headers.append((b"www-authenticate", b"Bearer"))
        if self.retry_after_ms is not None:
            headers.append((b"retry-after", b"%d" % math.ceil(self.retry_after_ms / 1_000)))
        return headers

    def body(self) -> bytes:
        """Return the error as the Connect protocol writes it."""
        error: dict[str, Any] = {"code": self.name, "message": self.message}
        if self.details:
            error["details"] = [*map(_detail, self.details)]
        return orjson.dumps(error)

    def event(self) -> bytes:
        """Return the data of the event that ends a stream with this failure."""
        event = {"code": self.name, "message": self.message, "reason": self.reason}
        if self.retry_after_ms is not None:
            return orjson.dumps(event | {"retryAfterMs": self.retry_after_ms})
        return orjson.dumps(event)

    def _find(self, message: Any) -> Any:  # noqa: ANN401 - the message, filled
        return next(self._unpacked(message), None)

    def _unpacked(self, message: Any) -> Iterator[Any]:  # noqa: ANN401 - as above
        for detail in self.details:
            if detail.Unpack(message):
                yield message


def _detail(detail: AnyMessage) -> dict[str, Any]:
    """Return a detail with its bytes, and as JSON for people."""
    shown = json_format.MessageToDict(detail)
    shown.pop("@type")
    return {
        "type": detail.TypeName(),
        "value": base64.b64encode(detail.value).decode().rstrip("="),
        "debug": shown,
    }
