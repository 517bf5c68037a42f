"""Calls of stagecast's API from messages to messages, for what is prepared before a measurement."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from tests.bench.load.http2 import Connection, call

_Answer = TypeVar("_Answer", bound=Message)

REPORTS = "/stagecast.v1.ReportService"
STATUS = "/stagecast.v1.StatusService"
CONTROLS = "/stagecast.v1.ControlService"

REPORT = f"{REPORTS}/Report"
GET_BATCH = f"{STATUS}/GetBatch"
LIST_DOCUMENTS = f"{STATUS}/ListDocuments"
WATCH = f"{STATUS}/WatchBatch"


async def invoke(
    connection: Connection, path: str, request: Message, answer: type[_Answer]
) -> _Answer:
    """Make a call."""
    return answer.FromString(await call(connection, path, request.SerializeToString()))
