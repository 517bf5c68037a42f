"""A watch that reconnects, on real servers and on small ones that misbehave on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from dataclasses import replace

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from stagecast.app import App
from stagecast.client import Stubs, details_of
from stagecast.client import async_watch as watch_module
from stagecast.config import Config
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.client.scripted import (
    CALLER_TOKEN,
    REFUSALS,
    REQUEST,
    Code,
    Step,
    aborts,
    accepts_and_hangs,
    breaks,
    hangs,
    part,
    revisions,
    sends,
    serving,
    snapshot_part,
    whole,
)
from tests.clock import Clock
from tests.conditions import with_more_time
from tests.process import free_address
from tests.validator import WatchRecord
from tests.watches.pipeline import Pipeline


async def test_whole_messages_are_yielded_as_they_were_sent() -> None:
    sent = [snapshot_part("a", "b", complete=True), whole(8), whole(9)]
    async with serving(sends(*sent)) as scripted:
        assert await scripted.received() == sent


async def test_parts_of_a_snapshot_are_merged_until_a_token() -> None:
    parts = [snapshot_part("a", "b"), snapshot_part("c"), snapshot_part("d", complete=True)]
    async with serving(sends(*parts, whole(8))) as scripted:
        received = await scripted.received()
    assert received == [snapshot_part("a", "b", "c", "d", complete=True), whole(8)]


async def test_parts_of_a_call_are_merged_until_a_token() -> None:
    async with serving(sends(whole(1), part(2), part(3), whole(4), whole(5))) as scripted:
        received = await scripted.received()
    assert revisions(received) == [[1], [2, 3, 4], [5]]
    assert [(m.revision, m.resume_token) for m in received] == [(1, "t1"), (4, "t4"), (5, "t5")]
    assert received[1].batch.revision == 4


async def test_parts_are_dropped_when_the_stream_breaks_before_their_token() -> None:
    async with serving(
        sends(whole(1), part(2), part(3), then=breaks), sends(part(2), part(3), whole(4))
    ) as scripted:
        received = await scripted.received()
    assert revisions(received) == [[1], [2, 3, 4]]
    assert scripted.script.tokens == ["", "t1"]


async def test_partial_snapshot_is_dropped_when_the_stream_breaks() -> None:
    async with serving(
        sends(snapshot_part("a", "b"), then=breaks),
        sends(snapshot_part("a"), snapshot_part("c", complete=True)),
    ) as scripted:
        received = await scripted.received()
    assert received == [snapshot_part("a", "c", complete=True)]
    assert scripted.script.tokens == ["", ""]


# Reconnects.


async def test_every_reconnect_sends_the_last_token() -> None:
    async with serving(
        sends(whole(1), whole(2), then=breaks),
        sends(then=breaks),
        sends(whole(3), then=breaks),
        sends(whole(4)),
    ) as scripted:
        received = await scripted.received()
    assert revisions(received) == [[1], [2], [3], [4]]
    assert scripted.script.tokens == ["", "t2", "t2", "t3"]


async def test_watch_starts_at_the_callers_token_until_there_is_a_newer() -> None:
    request = s.WatchBatchRequest(dataset_id="d", batch_id="b", resume_token=CALLER_TOKEN)
    async with serving(sends(part(1), then=breaks), sends(whole(1))) as scripted:
        watch = scripted.client.watch(request)
        assert revisions([message async for message in watch]) == [[1]]
    assert scripted.script.tokens == ["mine", "mine"]


async def test_every_call_sends_the_callers_request() -> None:
    async with serving(sends(whole(1), then=breaks), sends(whole(2))) as scripted:
        await scripted.received()
    for request in scripted.script.requests:
        request.ClearField("resume_token")
        request.ClearField("heartbeat_interval")
    assert scripted.script.requests == [REQUEST, REQUEST]


async def test_request_of_the_caller_is_not_modified() -> None:
    request = s.WatchBatchRequest(dataset_id="d", batch_id="b", resume_token=CALLER_TOKEN)
    before = request.SerializeToString(deterministic=True)
    async with serving(sends(whole(1))) as scripted:
        assert [m.resume_token async for m in scripted.client.watch(request)] == ["t1"]
    assert request.SerializeToString(deterministic=True) == before


async def test_heartbeat_interval_is_well_below_the_silence_limit() -> None:
    request = s.WatchBatchRequest(heartbeat_interval=Duration(seconds=300))
    async with serving(sends(whole(1), then=breaks), sends(whole(2))) as scripted:
        async for _ in scripted.client.watch(request):
            pass
    for requested in scripted.script.requests:
        interval_s = requested.heartbeat_interval.ToMilliseconds() / 1_000
        assert 1 <= interval_s <= 300, "the server accepts no other"
        assert 2 * interval_s <= watch_module._SILENCE_S, "one may be late"


async def test_advised_retry_delay_is_honoured() -> None:
    delay_s = 0.6  # far longer than the first pause
    broken = sends(whole(1), then=aborts(Code.UNAVAILABLE, retry_after_s=delay_s))
    async with serving(broken, sends(whole(2))) as scripted:
        assert revisions(await scripted.received()) == [[1], [2]]
    paused_s = scripted.script.began[1] - scripted.script.ended[0]
    assert paused_s >= 0.9 * delay_s


async def test_any_code_with_a_retry_delay_leads_to_a_reconnect() -> None:
    broken = sends(whole(1), then=aborts(Code.RESOURCE_EXHAUSTED, retry_after_s=0.01))
    async with serving(broken, sends(whole(2))) as scripted:
        assert revisions(await scripted.received()) == [[1], [2]]
    assert scripted.script.tokens == ["", "t1"]


async def test_call_cancelled_by_the_server_is_made_again() -> None:
    async with serving(sends(whole(1), then=aborts(Code.CANCELLED)), sends(whole(2))) as scripted:
        assert revisions(await scripted.received()) == [[1], [2]]
    assert scripted.script.tokens == ["", "t1"]


@pytest.mark.slow
async def test_pauses_between_failed_reconnects_grow() -> None:
    failing = [sends(then=breaks)] * 3
    async with serving(sends(whole(1), then=breaks), *failing, sends(whole(2))) as scripted:
        assert revisions(await scripted.received()) == [[1], [2]]
    began = scripted.script.began
    pauses = [later - earlier for earlier, later in itertools.pairwise(began)]
    assert pauses[-1] > 0.24, "five times the first, with at most half of it as jitter"


async def test_watch_survives_any_number_of_short_breaks() -> None:
    broken = [sends(whole(n), then=breaks) for n in range(1, 11)]

    async def watch_on(timer_s: float) -> None:
        async with serving(*broken, sends(whole(11))) as scripted:
            received = await scripted.received(give_up_after_s=timer_s)
        assert revisions(received) == [[n] for n in range(1, 12)]

    await with_more_time(watch_on, 0.8)


# Ends.


async def test_watch_ends_when_the_server_ends_it_well() -> None:
    async with serving(sends(whole(1))) as scripted:
        assert revisions(await scripted.received()) == [[1]]
    assert len(scripted.script.requests) == 1


async def test_watch_without_any_message_ends_when_the_server_ends_it_well() -> None:
    async with serving(sends()) as scripted:
        assert await scripted.received() == []
    assert len(scripted.script.requests) == 1


async def test_watch_that_reconnected_ends_when_the_server_ends_it_well() -> None:
    async with serving(sends(whole(1), then=breaks), sends()) as scripted:
        assert revisions(await scripted.received()) == [[1]]
    assert len(scripted.script.requests) == 2


async def test_first_connection_that_fails_is_raised_at_once() -> None:
    async with Stubs(free_address()) as client, asyncio.timeout(60):
        with pytest.raises(aio.AioRpcError) as caught:
            await anext(client.watch(REQUEST, give_up_after_s=600))
    assert caught.value.code() is Code.UNAVAILABLE


@pytest.mark.parametrize("code", REFUSALS, ids=lambda code: code.name)
async def test_refusal_is_raised(code: grpc.StatusCode) -> None:
    async with serving(sends(then=aborts(code))) as scripted:
        tokens, error = await scripted.until_error()
    assert (tokens, error.code()) == ([], code)
    assert len(scripted.script.requests) == 1


@pytest.mark.parametrize("code", REFUSALS, ids=lambda code: code.name)
async def test_refusal_of_a_reconnect_is_raised(code: grpc.StatusCode) -> None:
    async with serving(sends(whole(1), then=breaks), sends(then=aborts(code))) as scripted:
        tokens, error = await scripted.until_error()
    assert (tokens, error.code()) == (["t1"], code)
    assert len(scripted.script.requests) == 2


@pytest.mark.parametrize("code", REFUSALS, ids=lambda code: code.name)
async def test_refusal_in_the_middle_of_a_stream_is_raised(code: grpc.StatusCode) -> None:
    async with serving(sends(whole(1), part(2), then=aborts(code))) as scripted:
        tokens, error = await scripted.until_error()
    assert (tokens, error.code()) == (["t1"], code)
    assert len(scripted.script.requests) == 1


async def test_watch_gives_up_when_the_server_is_gone_for_too_long() -> None:
    async with serving(sends(whole(1), then=hangs)) as scripted:
        now = asyncio.get_running_loop().time
        async with scripted.watch(give_up_after_s=0.3) as messages:
            before = now()
            await anext(messages)
            await scripted.server.stop(None)
            with pytest.raises(aio.AioRpcError) as caught:
                await anext(messages)
        assert caught.value.code() is Code.UNAVAILABLE
        assert now() - before > 0.3


async def test_watch_gives_up_on_a_server_that_is_unavailable_for_too_long() -> None:
    async def give_up(timer_s: float) -> None:
        async with serving(sends(whole(1), then=breaks), always=sends(then=breaks)) as scripted:
            tokens, error = await scripted.until_error(give_up_after_s=timer_s)
        assert (tokens, error.code()) == (["t1"], Code.UNAVAILABLE)
        assert len(scripted.script.requests) > 2

    await with_more_time(give_up, 0.3)


async def test_closing_the_generator_cancels_the_call_on_the_server() -> None:
    async with serving(sends(whole(1), then=hangs)) as scripted:
        messages = scripted.client.watch(REQUEST)
        await anext(messages)
        assert not scripted.script.cancelled.is_set()
        await messages.aclose()
        await scripted.script.cancelled.wait()
    assert len(scripted.script.requests) == 1


async def test_cancelling_a_waiting_reader_cancels_the_call_on_the_server() -> None:
    async with serving(sends(whole(1), then=hangs)) as scripted, scripted.watch() as messages:
        await anext(messages)
        waiting = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)  # now it waits
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await scripted.script.cancelled.wait()
    assert len(scripted.script.requests) == 1


# Silence.


@pytest.fixture
def set_silence(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets after how many seconds without a message a connection counts as dead."""
    return lambda seconds: monkeypatch.setattr(watch_module, "_SILENCE_S", seconds)


async def check_survives(
    set_silence: Callable[[float], None], *steps: Step, tokens: list[str]
) -> None:
    """Check that two transitions arrive although a server falls silent, and the tokens sent."""

    async def watch_on(timer_s: float) -> None:
        set_silence(timer_s)
        async with serving(*steps) as scripted:
            assert revisions(await scripted.received()) == [[1], [2]]
            await scripted.script.cancelled.wait()
        assert scripted.script.tokens == tokens

    await with_more_time(watch_on, 0.2)


async def test_watch_reconnects_when_a_connection_falls_silent(
    set_silence: Callable[[float], None],
) -> None:
    silent = sends(whole(1), part(2), then=hangs)
    await check_survives(set_silence, silent, sends(whole(2)), tokens=["", "t1"])


async def test_connection_that_is_silent_from_the_start_is_given_up(
    set_silence: Callable[[float], None],
) -> None:
    steps = [sends(whole(1), then=breaks), sends(then=accepts_and_hangs), sends(whole(2))]
    await check_survives(set_silence, *steps, tokens=["", "t1", "t1"])


async def test_call_that_is_never_accepted_is_given_up(
    set_silence: Callable[[float], None],
) -> None:
    steps = [sends(whole(1), then=breaks), sends(then=hangs), sends(whole(2))]
    await check_survives(set_silence, *steps, tokens=["", "t1", "t1"])


async def test_watch_gives_up_on_a_server_that_stays_silent_for_too_long(
    set_silence: Callable[[float], None],
) -> None:
    async def give_up(timer_s: float) -> None:
        set_silence(timer_s)
        silent = sends(then=accepts_and_hangs)
        async with serving(sends(whole(1), then=hangs), always=silent) as scripted:
            tokens, error = await scripted.until_error(give_up_after_s=2 * timer_s)
        assert (tokens, error.code()) == (["t1"], Code.UNAVAILABLE)

    await with_more_time(give_up, 0.2)


# Real servers.


async def test_watch_of_a_real_server_keeps_all_promises_to_the_end(
    client: Stubs, dataset_id: str
) -> None:
    pipeline = Pipeline(client, dataset_id)
    await pipeline.create(3)
    record = WatchRecord()
    async with asyncio.timeout(60):
        messages = client.watch(pipeline.watch_request())
        record.receive(await anext(messages))
        await pipeline.stage(r.STAGE_PARSING)
        await pipeline.stage(r.STAGE_COMPLETED)
        async for message in messages:
            assert message.resume_token
            record.receive(message)
    assert record.snapshots == 1
    assert record.documents == await pipeline.documents()
    record.check_atomic(pipeline.calls)


async def test_snapshot_of_many_documents_is_one_message(client: Stubs, dataset_id: str) -> None:
    pipeline = Pipeline(client, dataset_id)
    await pipeline.create(5_000)
    async with pipeline.stream() as stream:
        assert not (await stream.read()).resume_token, "the server sends it in parts"
    async with (
        asyncio.timeout(60),
        contextlib.aclosing(client.watch(pipeline.watch_request())) as messages,
    ):
        message = await anext(messages)
    assert message.resume_token
    assert message.snapshot.complete
    assert [d.document_id for d in message.snapshot.documents] == pipeline.document_ids


async def test_watch_survives_a_restart_of_a_real_server(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    config = replace(config, grpc=free_address())
    record = WatchRecord()
    async with Stubs(config.grpc) as client, asyncio.timeout(60):
        pipeline = Pipeline(client, dataset_id)
        async with App(config, clock=clock):
            await pipeline.create(2)
            messages = client.watch(pipeline.watch_request())
            record.receive(await anext(messages))
            await pipeline.stage(r.STAGE_PARSING)
        async with App(config, clock=clock):
            await pipeline.stage(r.STAGE_COMPLETED)
            async for message in messages:
                record.receive(message)
    assert record.snapshots == 1
    assert sorted(record.transitions) == [5, 6, 7, 8]


async def test_unknown_batch_on_a_real_server_is_raised_at_once(
    client: Stubs, dataset_id: str
) -> None:
    request = s.WatchBatchRequest(dataset_id=dataset_id, batch_id="nothing")
    async with asyncio.timeout(60):
        with pytest.raises(aio.AioRpcError) as caught:
            await anext(client.watch(request, give_up_after_s=600))
    assert caught.value.code() is Code.NOT_FOUND
    assert details_of(caught.value).reason == "BATCH_NOT_FOUND"


async def test_invalid_token_on_a_real_server_is_raised_at_once(
    client: Stubs, dataset_id: str
) -> None:
    pipeline = Pipeline(client, dataset_id)
    await pipeline.create(1)
    async with asyncio.timeout(60):
        with pytest.raises(aio.AioRpcError) as caught:
            await anext(client.watch(pipeline.watch_request(resume_token=CALLER_TOKEN)))
    assert caught.value.code() is Code.INVALID_ARGUMENT
    assert details_of(caught.value).reason == "TOKEN_INVALID"
