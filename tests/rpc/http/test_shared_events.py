"""Messages are made events once for all streams, and heartbeats are told from news."""

from __future__ import annotations

import asyncio

import pytest

from stagecast.rpc.http import shared_events
from stagecast.rpc.http.shared_events import SharedEvents
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s

TOKEN = "token"  # noqa: S105 - of a watch
NEWS = ("snapshot", "transitions", "progress")


def large(revision: int) -> bytes:
    """Return a message that is converted on a thread."""
    transition = r.Transition(document=r.Document(display_name="x" * 1_000))
    message = s.WatchBatchResponse(transitions=100 * [transition], revision=revision)
    message.resume_token = TOKEN
    return message.SerializeToString()


async def test_message_is_converted_once_for_all_streams() -> None:
    events = SharedEvents(s.WatchBatchResponse, NEWS)
    message = large(1)
    first, second = await asyncio.gather(events.convert(message), events.convert(bytes(message)))
    assert first is second
    assert await events.convert(message) is first
    assert (first.token, first.text[-11:]) == (TOKEN, b"id: token\n\n")


async def test_oldest_events_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_events, "_BYTES", 3 * len(large(1)))
    events = SharedEvents(s.WatchBatchResponse, NEWS)
    first = await events.convert(large(1))
    last = await events.convert(large(2))
    assert await events.convert(large(2)) is last
    again = await events.convert(large(1))
    assert again is not first
    assert again == first


async def test_memory_of_events_is_bounded_whatever_their_sizes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = 4 * len(large(1))
    monkeypatch.setattr(shared_events, "_BYTES", limit)
    events = SharedEvents(s.WatchBatchResponse, NEWS)
    small = [r.Transition(revision=revision) for revision in range(50)]
    for transition in small:
        await events.convert(
            s.WatchBatchResponse(transitions=[transition], resume_token=TOKEN).SerializeToString()
        )
    assert len(events._recent) == 50
    for revision in range(5):
        await events.convert(large(revision))
        size = sum(len(message) + len(event.text) for message, event in events._recent.items())
        assert size == events._bytes <= limit


@pytest.mark.parametrize(
    ("message", "is_news"),
    [
        (s.WatchBatchResponse(resume_token=TOKEN, revision=3, batch=r.Batch(batch_id="b")), False),
        (s.WatchBatchResponse(), False),
        (s.WatchBatchResponse(snapshot=s.Snapshot()), True),
        (s.WatchBatchResponse(progress=[s.DocumentProgress()]), True),
        (s.WatchBatchResponse(transitions=[r.Transition()]), True),
    ],
)
async def test_message_without_news_is_a_heartbeat(
    message: s.WatchBatchResponse, is_news: bool
) -> None:
    event = await SharedEvents(s.WatchBatchResponse, NEWS).convert(message.SerializeToString())
    assert bool(event.text) is is_news
    assert event.token == message.resume_token
    assert r.Batch.FromString(event.batch) == message.batch
