"""Errors that no server has sent: responses that cannot be decoded, and silence.

grpc logs a traceback for a response that cannot be decoded, and returns `None` in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio


class UnaryCall:
    """A unary call that raises an error if the response cannot be decoded."""

    def __init__(self, call: Any) -> None:  # noqa: ANN401 - grpc has no public class of it
        self._call = call

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever it is
        return getattr(self._call, name)

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the response.

        Raises:
            grpc.aio.AioRpcError: the call failed, or the response cannot be decoded.
        """
        response = yield from self._call.__await__()
        if response is None:
            raise undecodable_error()
        return response


def decoding_to_none(options: dict[str, Any]) -> dict[str, Any]:
    """Return a stub's options with a deserializer that returns `None` instead of raising."""
    decode: Callable[[bytes], Any] = options["response_deserializer"]

    def decode_or_none(data: bytes) -> Any:  # noqa: ANN401 - whatever message it is
        try:
            return decode(data)
        except DecodeError:
            return None

    return {**options, "response_deserializer": decode_or_none}


def undecodable_error() -> aio.AioRpcError:
    """Return the error for a response that is `None`."""
    return _made_error(grpc.StatusCode.INTERNAL, "the response cannot be decoded")


def silence_error(silence_s: float) -> aio.AioRpcError:
    """Return the error for a connection without any message."""
    return _made_error(grpc.StatusCode.UNAVAILABLE, f"no message received for {silence_s:g} s")


def _made_error(code: grpc.StatusCode, details: str) -> aio.AioRpcError:
    """Return an error that no server has sent."""
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), details=details)
