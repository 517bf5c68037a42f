"""Requests to the RPCs over HTTP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
from google.rpc.error_details_pb2 import ErrorInfo

from tests.event_source import EventParser, ServerEvent

STATUS = "/stagecast.v1.StatusService"
REPORTS = "/stagecast.v1.ReportService"
CONTROLS = "/stagecast.v1.ControlService"


class Http:
    """Calls over HTTP."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def post(self, rpc: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        """Call a unary RPC with JSON; return the response."""
        return await self.client.post(rpc, json=fields, headers=headers)

    async def call(self, rpc: str, **fields: Any) -> Any:
        """Call a unary RPC with JSON; return the answer."""
        response = await self.post(rpc, **fields)
        assert response.status_code == 200, response.text
        return response.json()

    @contextlib.asynccontextmanager
    async def events(self, path: str, **headers: str) -> AsyncIterator[Events]:
        """Open one stream of events."""
        async with self.client.stream("GET", path, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            yield Events(response)


class Events:
    """One stream of events, read with a deadline."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.parser = EventParser()
        self._data = response.aiter_raw()
        self._read: list[ServerEvent] = []

    async def next(self) -> ServerEvent:
        """Return the next event."""
        while not self._read:
            await self._receive()
        return self._read.pop(0)

    async def until(self, kind: str) -> list[ServerEvent]:
        """Return the events up to the next of a kind."""
        events = [await self.next()]
        while events[-1].kind != kind:
            events.append(await self.next())
        return events

    async def comment(self) -> str:
        """Return the next comment; no event may come before it."""
        while not self.parser.comments:
            await self._receive()
            assert not self._read
        return self.parser.comments.pop(0)

    async def is_over(self) -> bool:
        """Return whether nothing follows."""
        async with asyncio.timeout(60):
            return [part async for part in self._data] == []

    async def _receive(self) -> None:
        async with asyncio.timeout(60):
            self._read += self.parser.parse(await anext(self._data))


def reason(response: httpx.Response) -> str:
    """Return the reason of a refused call, and check the form of the error."""
    error = response.json()
    assert response.headers["content-type"] == "application/json"
    assert error["code"].islower()
    assert error["message"]
    [info] = [one for one in error["details"] if one["type"] == "google.rpc.ErrorInfo"]
    assert "=" not in info["value"]
    value = base64.b64decode(info["value"] + "=" * (-len(info["value"]) % 4))
    assert ErrorInfo.FromString(value).reason == info["debug"]["reason"]
    return str(info["debug"]["reason"])
