"""Watches as server-sent events: what every browser, and curl, can read.

A message is an event with its resume token as id, so a browser that reconnects by itself misses
nothing. Heartbeats are comments. The stream ends with an `end` event, or with an `error` event that
says whether to come again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from starlette import types

from stagecast.asgi import TIMED
from stagecast.errors import FieldInvalid
from stagecast.escaping import quote
from stagecast.rpc.http.call import HttpCall
from stagecast.rpc.http.failure import Failure
from stagecast.rpc.http.messages import dump
from stagecast.rpc.http.method import Method
from stagecast.rpc.http.shared_events import SharedEvents, event_text
from stagecast.v1.resources_pb2 import Batch

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx sends each event on at once
]

_HEARTBEAT = b": heartbeat\n\n"
_PIECE = 1 << 16  # bytes of an event that are written at once

# What the id of an `end` event begins with, before the resume token.
_END = "end:"

# After how long a browser comes again: at once would keep a server busy that is just starting.
_RETRY_MS = 1_000

_BOOLEANS = {"true": True, "false": False}


class EventStream(HttpCall):
    """A call that is answered with events.

    Args:
        events: of the messages of the method.
        named: the fields of the request that the path names.
    """

    def __init__(
        self,
        method: Method,
        events: SharedEvents,
        named: dict[str, str],
        scope: types.Scope,
        receive: types.Receive,
        send: types.Send,
    ) -> None:
        super().__init__(method, scope, receive, send)
        self._events = events
        self._named = named
        self._started = False
        self._ended_before = False  # the client has the end, and comes again
        self._token = ""
        self._batch = b""  # the last that was sent, encoded
        self._unsent = b""  # the rest of an event

    async def read(self) -> bytes:
        """Return the request, encoded.

        Raises:
            FieldInvalid: a query parameter is unknown or malformed.
        """
        request: Any = self.method.request(**self._named)
        for name, value in parse_qsl(
            self.scope["query_string"].decode("latin-1"), keep_blank_values=True
        ):
            field = _find_field(request, name)
            if field is None or field.name in self._named:
                raise FieldInvalid(name, "unknown query parameter")
            _set_field(request, field, value)
        if hasattr(request, "resume_token"):
            token = self.headers.get(b"last-event-id") or request.resume_token
            request.resume_token = token.removeprefix(_END)
            self._ended_before = token.startswith(_END) and not request.follow
        encoded: bytes = request.SerializeToString()
        return encoded

    async def send_initial_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        """Start the response, unless the client may already have all of it."""
        if not self._ended_before:
            await self._start()

    async def write(self, message: bytes) -> None:
        """Send a message as an event, or a heartbeat as a comment; wait until it is read."""
        event = await self._events.convert(message)
        if event.token:
            self._token, self._batch = event.token, event.batch
        if event.text:
            await self._send(event.text)
        elif not self._ended_before:
            await self._send(_HEARTBEAT)

    async def finish(self, answer: bytes | None) -> None:
        """End the stream; a browser that has the end already gets 204, and stays away."""
        if not self._started and self._ended_before:
            await self.answer(204, [])
            return
        batch = dump(Batch.FromString(self._batch))
        end = event_text(b'{"batch":%b}' % batch, event="end", id=_END + self._token)
        await self._send_last(end)

    async def fail(self, failure: Failure) -> None:
        """Answer with an error; a stream that has started ends with an event."""
        if not self._started:
            await self.answer(failure.status, failure.headers(), failure.body())
            return
        retry_ms = failure.retry_after_ms
        retry = b"" if retry_ms is None else b"retry: %d\n" % (_RETRY_MS + retry_ms)
        await self._send_last(retry + event_text(failure.event(), event="error"))

    async def _start(self) -> None:
        self._started = True
        start = {"type": "http.response.start", "status": 200, "headers": _HEADERS, TIMED: True}
        await self.send(start)
        await self._send(b"retry: %d\n\n" % _RETRY_MS)

    async def _send(self, event: bytes) -> None:
        """Send an event at the client's pace, so that hardly more than a piece waits in memory."""
        if not self._started:
            await self._start()
        self._unsent = event
        while self._unsent:
            piece, self._unsent = self._unsent[:_PIECE], self._unsent[_PIECE:]
            await self.send({"type": "http.response.body", "body": piece, "more_body": True})

    async def _send_last(self, event: bytes) -> None:
        """End the stream; a client that reads on gets the rest of the event before it as well."""
        if not self._started:
            await self._start()
        await self.send({"type": "http.response.body", "body": self._unsent + event})


def _find_field(request: Message, name: str) -> FieldDescriptor | None:
    """Return a field by its name in the proto or in JSON."""
    fields: Any = request.DESCRIPTOR.fields  # typed as one of two classes
    return next((field for field in fields if name in (field.name, field.json_name)), None)


def _set_field(request: Message, field: FieldDescriptor, text: str) -> None:
    """Set a field to the value of a query parameter, written as in JSON but without quotes.

    Raises:
        FieldInvalid: it is not a value of the field.
    """
    value: object = [text] if field.is_repeated else text
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if text not in _BOOLEANS:
            raise FieldInvalid(field.name, f"must be true or false, not {quote(text)}")
        value = _BOOLEANS[text]
    try:
        json_format.ParseDict({field.name: value}, request)
    except json_format.ParseError:
        raise FieldInvalid(field.name, f"invalid value {quote(text)}") from None
