"""Answers that are no message.

grpc writes a traceback for them, and goes on with `None` in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio


class UnaryCall:
    """A call with one answer that raises if that cannot be decoded; else it is as grpc has it."""

    def __init__(self, call: Any) -> None:  # noqa: ANN401 - grpc has no public class of it
        self._call = call

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever it is
        return getattr(self._call, name)

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the answer.

        Raises:
            grpc.aio.AioRpcError: the call failed, or the answer cannot be decoded.
        """
        answer = yield from self._call.__await__()
        if answer is None:
            raise undecodable()
        return answer


def quietly_decoding(how: dict[str, Any]) -> dict[str, Any]:
    """Return how a stub makes a call, so that grpc says nothing of what cannot be decoded."""
    decode: Callable[[bytes], Any] = how["response_deserializer"]

    def decode_or_none(data: bytes) -> Any:  # noqa: ANN401 - whatever message it is
        try:
            return decode(data)
        except DecodeError:
            return None

    return {**how, "response_deserializer": decode_or_none}


def undecodable() -> aio.AioRpcError:
    """Return the error for an answer that is `None`."""
    return aio.AioRpcError(
        grpc.StatusCode.INTERNAL,
        aio.Metadata(),
        aio.Metadata(),
        details="what was answered cannot be decoded",
    )
