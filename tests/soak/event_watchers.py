"""Watchers over HTTP: browsers that record what they receive, and such as stop reading."""

from __future__ import annotations

import asyncio
import random
import socket

import httpx

from tests.event_source import EventParser, EventSource
from tests.soak.watchers import Record, Watchers
from tests.watches.pipeline import Pipeline

# Before a stream, a server that is stopping or cannot read its file refuses it.
_COME_AGAIN = (429, 503)
_PAUSE_S = 0.02  # before a new `EventSource` is made


class EventWatchers:
    """All watchers of a run over HTTP.

    Args:
        addresses: of HTTP; each connection is to any of them.
        key: of the servers.

    Attributes:
        connections: how often they have connected.
        slow: readers that were ended by `SLOW_READER`.
    """

    def __init__(
        self, addresses: list[str], key: str, watchers: Watchers, rng: random.Random
    ) -> None:
        self._addresses = addresses
        self._headers = {"authorization": f"Bearer {key}"}
        self._watchers = watchers
        self._rng = rng
        self.connections = self.slow = 0

    async def watch(self, pipeline: Pipeline, record: Record) -> None:
        """Watch to the end, as pages do: with a new `EventSource` whenever one gives up."""
        closed_by, last_id = None, ""
        while closed_by != 204:
            source = self._open(pipeline)
            source.parser.last_id = last_id
            await self._receive(source, record)
            closed_by, last_id = source.closed_by, source.parser.last_id
            assert closed_by in (None, 204, *_COME_AGAIN), closed_by
            record.hang_up()
            await asyncio.sleep(_PAUSE_S)

    def _open(self, pipeline: Pipeline) -> EventSource:
        path = f"/v1/datasets/{pipeline.dataset_id}/batches/{pipeline.batch_id}/watch"
        urls = [f"http://{address}{path}" for address in self._addresses]
        return EventSource(*urls, headers=self._headers, rng=self._rng)

    async def _receive(self, source: EventSource, record: Record) -> None:
        """Record what a source receives until it gives up, or hangs up at random."""
        connection, events_left = 0, self._watchers.hangups.next()
        async for event in source.events():
            if source.connections > connection:
                connection = source.connections
                self.connections += 1
                record.hang_up()
            if event.kind == "message":
                record.receive(event.message())
            if events_left is not None and (events_left := events_left - 1) == 0:
                self._watchers.hangups.done += 1
                return

    async def stop_reading(
        self, connection: socket.socket, pipeline: Pipeline, address: str
    ) -> None:
        """Open a stream that nobody reads, on a new socket."""
        host, _, port = address.rpartition(":")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (host, int(port)))
        path = httpx.URL(self._open(pipeline).urls[0]).path
        [(name, value)] = self._headers.items()
        request = f"GET {path} HTTP/1.0\r\n{name}: {value}\r\n\r\n"
        await loop.sock_sendall(connection, request.encode())

    async def read_on(self, connection: socket.socket) -> None:
        """Read a stream to its end, and count it if it was ended for its slow reader."""
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            _, _, body = (await reader.read()).partition(b"\r\n\r\n")
        except ConnectionError:  # the server was killed
            return
        finally:
            writer.close()
        events = EventParser().parse(body)
        self.slow += any(
            event.kind == "error" and event.json["reason"] == "SLOW_READER" for event in events
        )
