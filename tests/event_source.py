"""A client of server-sent events, as the HTML standard describes `EventSource`."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from google.protobuf import json_format

from stagecast.v1 import status_service_pb2 as s

_LINE_END = re.compile(b"\r\n|\n|\r")
_PAUSE_S = 0.02  # before it reconnects, instead of a second and more


@dataclass(frozen=True, kw_only=True)
class ServerEvent:
    """An event.

    Attributes:
        kind: `message` unless the server names another.
        last_id: the last id that the server has sent until then.
    """

    kind: str
    data: str
    last_id: str

    @property
    def json(self) -> Any:
        """The data."""
        return json.loads(self.data)

    def message(self) -> s.WatchBatchResponse:
        """Return the data as a message of `WatchBatch`."""
        return json_format.Parse(self.data, s.WatchBatchResponse())


class EventParser:
    """Interprets the bytes of streams.

    Attributes:
        last_id: of the last event; kept from one stream to the next.
        retry_ms: after which time the server wants its client back.
        comments: those of the stream.
    """

    def __init__(self) -> None:
        self.last_id = ""
        self.retry_ms: int | None = None
        self.comments: list[str] = []
        self.begin()

    def begin(self) -> None:
        """Begin a stream; an event that was incomplete is lost."""
        self._rest = b""
        self._id, self._kind, self._data = self.last_id, "", list[str]()

    def parse(self, data: bytes) -> list[ServerEvent]:
        """Return the events that are complete with this data."""
        *lines, self._rest = _LINE_END.split(self._rest + data)
        return [event for line in lines if (event := self._interpret(line.decode()))]

    def _interpret(self, line: str) -> ServerEvent | None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            return self._dispatch()
        if not name:
            self.comments.append(value)
        elif name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isdecimal():
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> ServerEvent | None:
        self.last_id = self._id
        kind, data = self._kind or "message", self._data
        self._kind, self._data = "", []
        if not data:
            return None
        return ServerEvent(kind=kind, data="\n".join(data), last_id=self.last_id)


class EventSource:
    """Reconnects by itself whenever the connection is lost or the stream ends.

    It is closed by an answer other than 200 with events: `closed_by` is its status then.

    Args:
        urls: of the stream, on any server.
        headers: of each request.
        rng: picks the server of each connection.
    """

    def __init__(
        self,
        *urls: str,
        headers: Mapping[str, str] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.urls = urls
        self._headers = dict(headers or {})
        self._rng = rng or random.Random(0)
        self.parser = EventParser()
        self.connections = 0
        self.closed_by: int | None = None

    async def events(self) -> AsyncIterator[ServerEvent]:
        """Yield events until it is closed."""
        async with httpx.AsyncClient(timeout=httpx.Timeout(60, read=None)) as http:
            while self.closed_by is None:
                try:
                    async for event in self._connect(http):
                        yield event
                except httpx.TransportError:
                    pass
                await asyncio.sleep(_PAUSE_S)

    async def _connect(self, http: httpx.AsyncClient) -> AsyncIterator[ServerEvent]:
        headers = {"accept": "text/event-stream", "cache-control": "no-store"} | self._headers
        if self.parser.last_id:
            headers["last-event-id"] = self.parser.last_id
        self.parser.begin()
        url = self._rng.choice(self.urls)
        async with http.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:
                self.closed_by = response.status_code
                return
            assert response.headers["content-type"] == "text/event-stream"
            self.connections += 1
            async for data in response.aiter_raw():
                for event in self.parser.parse(data):
                    yield event
