"""Events of encoded messages, made once for all streams that send the same message."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.message import Message

from stagecast.rpc.http.messages import dump, run
from stagecast.singleflight import SingleFlight

_BYTES = 8 << 20  # of messages and events that are kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A message of a watch as an event.

    Attributes:
        text: the event, empty for a heartbeat.
        token: the resume token of the message, if it has one.
        batch: the batch after it, encoded, if it has a token.
    """

    text: bytes
    token: str
    batch: bytes


class SharedEvents:
    """Converts messages of one kind, and keeps the newest: most streams are up to date.

    Args:
        kind: the class of the messages.
        news: the fields of which a heartbeat has none.
    """

    def __init__(self, kind: type[Message], news: Sequence[str]) -> None:
        self._kind = kind
        self._news = frozenset(news)
        self._recent: OrderedDict[bytes, Event] = OrderedDict()
        self._bytes = 0
        self._converting: SingleFlight[Event] = SingleFlight()

    async def convert(self, message: bytes) -> Event:
        """Return the event of a message."""
        event = self._recent.get(message)
        if event is None:
            answer: Any = self._kind.FromString(message)
            if self._news.isdisjoint(field.name for field, _ in answer.ListFields()):
                return _event(b"", answer)
            event = await self._converting.do(message, partial(self._convert, message, answer))
        return event

    async def _convert(self, message: bytes, answer: Message) -> Event:
        event = self._recent.get(message)  # of the run before
        if event is None:
            event = _event(await run(partial(dump, answer), len(message)), answer)
            self._keep(message, event)
        return event

    def _keep(self, message: bytes, event: Event) -> None:
        self._recent[message] = event
        self._bytes += len(message) + len(event.text)
        while self._bytes > _BYTES:
            oldest, dropped = self._recent.popitem(last=False)
            self._bytes -= len(oldest) + len(dropped.text)


def _event(data: bytes, answer: Any) -> Event:  # noqa: ANN401 - a message of a watch
    token = getattr(answer, "resume_token", "")
    text = event_text(data, id=token) if data else b""
    return Event(text=text, token=token, batch=answer.batch.SerializeToString() if token else b"")


def event_text(data: bytes, *, event: str = "", id: str = "") -> bytes:  # noqa: A002 - its name there
    """Return an event; without an id, since an empty one would make a browser forget the last."""
    kind = f"event: {event}\n" if event else ""
    number = f"id: {id}\n" if id else ""
    return b"%bdata: %b\n%b\n" % (kind.encode(), data, number.encode())
