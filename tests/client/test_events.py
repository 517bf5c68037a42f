"""Watches of `Client` and `AsyncClient`: each event exactly once, whatever the server does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import stagecast
from stagecast.client import async_watch, resumption, sync_watch
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.client.faces import NAMES, Events, Face
from tests.client.scripted import (
    CALLER_TOKEN,
    Code,
    Scripted,
    Step,
    aborts,
    accepts_and_hangs,
    breaks,
    hangs,
    part,
    sends,
    serving,
    snapshot_part,
    whole,
)
from tests.conditions import until, with_more_time

both = pytest.mark.parametrize("name", NAMES)


@contextlib.asynccontextmanager
async def watching(
    name: str, *steps: Step, always: Step | None = None, **options: Any
) -> AsyncIterator[tuple[Scripted, Events]]:
    """Watch a batch of a server that follows a script."""
    async with serving(*steps, always=always) as scripted:
        face = Face(name, scripted.address)
        events = Events(face, "d", "b", **options)
        try:
            yield scripted, events
        finally:
            await events.close()
            await face.close()


def revisions(events: list[Any]) -> list[int]:
    """Return the revisions of events."""
    return [event.revision for event in events]


async def received(events: Events) -> list[Any]:
    """Watch to the end."""
    return [event async for event in events]


def progress(document_id: str, completed: int) -> s.WatchBatchResponse:
    """Return a message with counters at revision 7."""
    message = whole(7)
    message.ClearField("transitions")
    message.progress.add(document_id=document_id, attempt=1).progress.completed_segments = completed
    return message


@both
async def test_snapshot_transitions_and_progress_are_yielded_in_order(name: str) -> None:
    steps = sends(
        snapshot_part("a", "b"),
        snapshot_part("c", complete=True),
        progress("a", 3),
        whole(8),
        part(9),
        whole(10),
    )
    async with watching(name, steps) as (_, events):
        snapshot, counters, *transitions = await received(events)
    assert [document.document_id for document in snapshot.documents] == ["a", "b", "c"]
    assert (snapshot.reason, snapshot.revision, snapshot.batch.revision) == ("INITIAL", 7, 7)
    assert counters == stagecast.DocumentProgress(
        document_id="a", attempt=1, completed_segments=3, total_segments=None
    )
    assert isinstance(counters, stagecast.Progress)
    assert all(isinstance(each, stagecast.Transition) for each in transitions)
    assert revisions(transitions) == [8, 9, 10]


@both
async def test_token_and_batch_are_those_of_the_last_whole_change(name: str) -> None:
    heartbeat = whole(10)
    heartbeat.ClearField("transitions")
    heartbeat.resume_token += "+"
    async with watching(name, sends(whole(8), part(9), whole(10), heartbeat)) as (_, events):
        watch: Any = events.watch
        assert not watch.resume_token
        assert getattr(watch, "batch", 0) is None
        after_each = [
            (event.revision, watch.resume_token, watch.batch.revision) async for event in events
        ]
        assert after_each == [(8, "t8", 8), (9, "t8", 8), (10, "t10", 10)]
        assert (watch.resume_token, watch.batch.revision) == ("t10+", 10)


@both
async def test_watch_shows_what_it_watches_and_how_far_it_is(name: str) -> None:
    kind = "AsyncWatch" if name == "AsyncClient" else "Watch"
    async with watching(name, sends(whole(2))) as (_, events):
        assert repr(events.watch) == f"<{kind} of batch 'b' of dataset 'd'>"
        await received(events)
        assert repr(events.watch) == f"<{kind} of batch 'b' of dataset 'd' at revision 2>"


@both
def test_watch_of_datasets_shows_which(name: str) -> None:
    face = Face(name, "127.0.0.1:1", key="secret")
    assert "secret" not in repr(face.client)
    kind = type(face.client.watch_datasets()).__name__
    assert repr(face.client.watch_datasets()) == f"<{kind} of all datasets>"
    known = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    assert repr(face.client.watch_datasets([known])) == f"<{kind} of {known}>"


@both
async def test_callers_token_and_options_are_sent(name: str) -> None:
    options: Any = {"follow": True, "transitions_only": True, "fail_on_expired_token": True}
    async with watching(name, sends(whole(2)), resume_token=CALLER_TOKEN, **options) as (
        scripted,
        events,
    ):
        assert events.watch.resume_token == CALLER_TOKEN
        assert revisions(await received(events)) == [2]
        [request] = scripted.script.requests
    assert (request.batch_id, request.resume_token) == ("b", CALLER_TOKEN)
    assert (request.follow, request.transitions_only, request.fail_on_expired_token) == (True,) * 3


@both
async def test_every_break_is_resumed_after_the_last_whole_message(name: str) -> None:
    advised = aborts(Code.UNAVAILABLE, retry_after_s=0.001)
    limited = aborts(Code.RESOURCE_EXHAUSTED, retry_after_s=0.001)
    async with watching(
        name,
        sends(whole(1), part(2), then=breaks),
        sends(then=breaks),
        sends(part(2), whole(3), then=advised),
        sends(whole(4), then=limited),
        sends(whole(5), then=aborts(Code.CANCELLED)),
        sends(whole(6)),
    ) as (scripted, events):
        assert revisions(await received(events)) == [1, 2, 3, 4, 5, 6]
        assert scripted.script.tokens == ["", "t1", "t1", "t3", "t4", "t5"]


@both
async def test_server_that_advises_a_retry_is_tried_again_also_at_first(name: str) -> None:
    draining = sends(then=aborts(Code.UNAVAILABLE, retry_after_s=0.001))
    async with watching(name, draining, sends(whole(1))) as (_, events):
        assert revisions(await received(events)) == [1]


@both
async def test_refusal_is_raised_and_not_repeated(name: str) -> None:
    refused = sends(whole(1), part(2), then=aborts(Code.NOT_FOUND))
    async with watching(name, refused) as (scripted, events):
        assert (await anext(events)).revision == 1
        with pytest.raises(stagecast.CallFailed, match="NOT_FOUND") as caught:
            await anext(events)
        assert caught.value.__suppress_context__
        assert len(scripted.script.requests) == 1


@both
async def test_first_connection_that_fails_is_raised_at_once(name: str) -> None:
    async with watching(name, sends(then=breaks)) as (scripted, events):
        with pytest.raises(stagecast.Unavailable):
            await anext(events)
        assert len(scripted.script.requests) == 1


@both
async def test_watch_gives_up_on_a_server_that_is_away_for_too_long(name: str) -> None:
    async def give_up(timer_s: float) -> None:
        async with watching(
            name, sends(whole(1), then=breaks), always=sends(then=breaks), give_up_after=timer_s
        ) as (scripted, events):
            assert (await anext(events)).revision == 1
            with pytest.raises(stagecast.Unavailable):
                await anext(events)
            assert len(scripted.script.requests) > 2

    await with_more_time(give_up, 0.3)


@both
async def test_time_that_the_caller_takes_is_no_outage(name: str) -> None:
    may_break = asyncio.Event()

    async def breaks_later(context: Any) -> None:
        await may_break.wait()
        await breaks(context)

    steps = (sends(whole(1), then=breaks_later), sends(whole(2)))
    async with watching(name, *steps, give_up_after=0.05) as (_, events):
        assert (await anext(events)).revision == 1
        await asyncio.sleep(0.2)  # the caller works for longer than a server may be away
        may_break.set()
        assert revisions(await received(events)) == [2]


# Silence.


@pytest.fixture
def set_silence(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets after how many seconds without a message a connection counts as dead."""

    def set_both(seconds: float) -> None:
        for module in (async_watch, sync_watch):
            monkeypatch.setattr(module, "_SILENCE_S", seconds)

    return set_both


def test_connection_is_dead_after_two_and_a_half_heartbeats_of_silence() -> None:
    assert resumption.SILENCE_S == 2.5 * resumption.HEARTBEAT_S
    assert async_watch._SILENCE_S == sync_watch._SILENCE_S == resumption.SILENCE_S
    request = s.WatchBatchRequest()
    for resumed in (resumption.WholeMessages(request), resumption.DatasetEvents([])):
        assert resumed.request.heartbeat_interval.seconds == resumption.HEARTBEAT_S


@both
@pytest.mark.parametrize("silent", [sends(part(2), then=hangs), sends(then=accepts_and_hangs)])
async def test_silent_connection_is_given_up_and_resumed(
    name: str, silent: Step, set_silence: Callable[[float], None]
) -> None:
    async def watch_on(timer_s: float) -> None:
        set_silence(timer_s)
        steps = (sends(whole(1), then=breaks), silent, sends(whole(2)))
        async with watching(name, *steps) as (scripted, events):
            assert revisions(await received(events)) == [1, 2]
            await scripted.script.cancelled.wait()
            assert scripted.script.tokens == ["", "t1", "t1"]

    await with_more_time(watch_on, 0.2)


@both
async def test_silence_while_the_caller_works_is_no_fault(
    name: str, set_silence: Callable[[float], None]
) -> None:
    """A caller may take longer for an event than a connection may be silent."""

    async def work(timer_s: float) -> None:
        may_end = asyncio.Event()

        async def waits(_context: Any) -> None:
            await may_end.wait()

        set_silence(timer_s)
        async with watching(name, sends(whole(1), whole(2), then=waits)) as (scripted, events):
            assert (await anext(events)).revision == 1
            await asyncio.sleep(2 * timer_s)  # longer than the connection may be silent
            may_end.set()
            assert revisions(await received(events)) == [2]
            assert len(scripted.script.requests) == 1

    await with_more_time(work, 0.1)


# Leaving.


def watch_threads() -> int:
    """Return the number of threads of watches."""
    return sum(thread.name == "stagecast-watch" for thread in threading.enumerate())


async def test_break_ends_the_call_of_an_async_watch() -> None:
    """At once: grpc itself would do it after two minutes, in a full collection."""
    async with serving(sends(whole(1), then=hangs)) as scripted, asyncio.timeout(60):
        client = stagecast.AsyncClient(scripted.address)
        async for event in client.watch("d", "b"):
            assert isinstance(event, stagecast.Transition)
            break
        await scripted.script.cancelled.wait()
        await client.close()


async def test_break_ends_the_call_and_the_thread_of_a_watch() -> None:
    async with serving(sends(whole(1), then=hangs)) as scripted:
        client = stagecast.Client(scripted.address)

        def leave() -> None:
            for event in client.watch("d", "b"):
                assert isinstance(event, stagecast.Transition)
                break

        await asyncio.to_thread(leave)
        await scripted.script.cancelled.wait()
        await until(lambda: not watch_threads())
        client.close()


async def test_watch_that_reconnects_is_closed_on_another_thread() -> None:
    away = sends(then=aborts(Code.UNAVAILABLE))
    async with serving(sends(whole(1), then=breaks), always=away) as scripted:
        client = stagecast.Client(scripted.address)
        watch = client.watch("d", "b", give_up_after=1_000_000)
        reading = asyncio.create_task(asyncio.to_thread(list, watch))
        await until(lambda: len(scripted.script.tokens) > 2)
        watch.close()
        assert len(await reading) == 1
        client.close()


@both
async def test_block_ends_the_call_although_the_watch_is_kept(name: str) -> None:
    async with watching(name, sends(whole(1), then=hangs)) as (scripted, events):
        assert (await anext(events)).revision == 1
        await events.close()
        await scripted.script.cancelled.wait()
        assert await received(events) == []
        await until(lambda: not watch_threads())


async def test_cancelled_read_ends_the_call_and_the_next_one_resumes() -> None:
    steps = (sends(whole(1), part(2), then=hangs), sends(part(2), whole(3)))
    async with watching("AsyncClient", *steps) as (scripted, events):
        assert (await anext(events)).revision == 1
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)  # now it waits
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await scripted.script.cancelled.wait()
        assert revisions(await received(events)) == [2, 3]
        assert scripted.script.tokens == ["", "t1"]


async def test_cancelled_task_leaves_no_call_behind() -> None:
    async with serving(sends(whole(1), then=hangs)) as scripted:
        client = stagecast.AsyncClient(scripted.address)
        first = asyncio.Event()

        async def watch() -> None:
            async for _ in client.watch("d", "b"):
                first.set()

        task = asyncio.create_task(watch())
        await first.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await scripted.script.cancelled.wait()
        await client.close()


async def test_exception_in_the_loop_ends_the_call() -> None:
    async with serving(sends(whole(1), then=hangs)) as scripted:
        client = stagecast.Client(scripted.address)

        def fail() -> None:
            for _ in client.watch("d", "b"):
                raise InterruptedError

        with contextlib.suppress(InterruptedError):
            await asyncio.to_thread(fail)
        gc.collect()
        await scripted.script.cancelled.wait()
        await until(lambda: not watch_threads())
        client.close()


# Real servers.


async def test_token_resumes_in_another_client(face: Face) -> None:
    await face.call("create_batch", "d", ["a"], batch_id="b")
    events = Events(face, "d", "b")
    snapshot = await anext(events)
    token = events.watch.resume_token
    await events.close()
    for stage in (stagecast.Stage.PARSING, stagecast.Stage.COMPLETED):
        report = stagecast.DocumentReport(document_id="a", stage=stage)
        await face.call("report", "d", "b", [report])
    resumed = Events(face, "d", "b", resume_token=token)
    transitions = await received(resumed)
    assert revisions(transitions) == [snapshot.revision + 1, snapshot.revision + 2]
    assert resumed.watch.batch.state.terminal


async def test_refused_watches_have_the_class_of_their_reason(face: Face) -> None:
    with pytest.raises(stagecast.BatchNotFound):
        await anext(Events(face, "d", "b"))
    await face.call("create_batch", "d", ["a"], batch_id="b")
    with pytest.raises(stagecast.TokenInvalid):
        await anext(Events(face, "d", "b", resume_token=CALLER_TOKEN))


async def test_watch_ends_with_an_error_when_its_batch_is_deleted(face: Face) -> None:
    await face.call("create_batch", "d", ["a"], batch_id="b")
    events = Events(face, "d", "b")
    await anext(events)
    await face.call("delete_batch", "d", "b")
    with pytest.raises(stagecast.BatchDeleted):
        await anext(events)


async def test_closed_client_ends_its_watches(face: Face) -> None:
    await face.call("create_batch", "d", ["a"], batch_id="b")
    events = Events(face, "d", "b")
    await anext(events)
    await face.close()
    with pytest.raises((RuntimeError, asyncio.CancelledError)):
        await anext(events)


# Datasets.


async def test_datasets_are_yielded_then_their_changes_then_their_removal(face: Face) -> None:
    await face.call("create_batch", "one", ["a"], batch_id="b")
    events = Events(face, ["one", "two"], method="watch_datasets")
    one = await anext(events)
    assert one == await face.call("get_dataset", "one")
    await face.call("create_batch", "two", [], batch_id="b")
    two = await anext(events)
    assert two.state == "SUCCEEDED"
    await face.call("delete_dataset", "one")
    assert await anext(events) == stagecast.DatasetRemoved(dataset_id=one.dataset_id)
    await events.close()


def test_datasets_that_are_sent_again_are_yielded_only_if_they_differ() -> None:
    state = resumption.DatasetEvents([])

    def names(message: s.WatchDatasetsResponse) -> list[str]:
        return [str(event) for event in state.receive(message)]

    def dataset(dataset_id: str, batches: int) -> r.Dataset:
        return r.Dataset(dataset_id=dataset_id, batches=batches)

    first = [dataset("a", 1), dataset("b", 1), dataset("c", 1)]
    assert len(names(s.WatchDatasetsResponse(datasets=first, complete=True))) == 3
    assert names(s.WatchDatasetsResponse(removed_dataset_ids=["c", "x"])) == ["dataset c: removed"]
    state.lost()
    assert names(s.WatchDatasetsResponse(datasets=[dataset("a", 1)])) == []
    state.lost()
    assert names(s.WatchDatasetsResponse()) == []
    changed = s.WatchDatasetsResponse(datasets=[dataset("a", 2), dataset("d", 1)], complete=True)
    lines = names(changed)
    assert [line.partition(":")[0] for line in lines] == ["dataset a", "dataset d", "dataset b"]
    assert names(s.WatchDatasetsResponse(datasets=[dataset("a", 2)])) == []
