"""WaitBatch: the terminal batch, or the current one after the timeout."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.errors import CredentialsExpired, Draining, StoreBusy
from stagecast.model import ANONYMOUS, BatchState, Caller, Stage, batch_state
from stagecast.notifier import Notifier
from stagecast.store.sqlite import SqliteStore
from stagecast.v1 import resources_pb2 as r
from stagecast.watches import Waits
from stagecast.watches import waits as waiting
from tests.access import ANY_CALLER
from tests.builders import BATCH_ID, DATASET_ID, ENCODER, create, move, report_of
from tests.clock import Clock
from tests.conditions import with_more_time
from tests.rpc.calls import Calls, counters, failure, refused, stage

AT_ONCE = Duration()
BRIEFLY = Duration(nanos=50_000_000)


async def test_terminal_batch_is_done_at_once(calls: Calls) -> None:
    await calls.create("a", "b")
    await calls.report(stage("a", r.STAGE_COMPLETED), failure("b"))
    requested: list[dict[str, Any]] = [
        {},
        {"timeout": AT_ONCE},
        {"timeout": Duration(seconds=3_600)},
    ]
    for fields in requested:
        answer = await calls.wait(**fields)
        assert answer.done
        assert answer.batch == await calls.batch()
        assert answer.batch.state == r.BATCH_STATE_PARTIALLY_SUCCEEDED


async def test_wait_is_answered_when_the_batch_ends_and_not_before(calls: Calls) -> None:
    await calls.create("a", "b", more_documents_follow=True)
    waiting = [asyncio.create_task(calls.wait()) for _ in range(20)]
    await calls.report(counters("a", 1, 2), stage("a", r.STAGE_COMPLETED))
    await calls.pause()
    await calls.report(failure("b"))
    await calls.wait(timeout=BRIEFLY)
    assert not any(task.done() for task in waiting), "it is not sealed"
    await calls.seal()
    batch = await calls.batch()
    for answer in await asyncio.gather(*waiting):
        assert (answer.done, answer.batch) == (True, batch)


async def test_wait_with_zero_timeout_returns_the_current_batch(calls: Calls) -> None:
    await calls.create("a")
    answer = await calls.wait(timeout=AT_ONCE)
    assert (answer.done, answer.batch) == (False, await calls.batch())


async def test_timed_out_wait_returns_the_current_batch(calls: Calls) -> None:
    async def wait(timer_s: float) -> None:
        batch_id, timeout = f"b-{timer_s}", Duration()
        timeout.FromMilliseconds(round(timer_s * 1_000))
        await calls.create("a", batch_id=batch_id)
        waiting = asyncio.create_task(calls.wait(timeout=timeout, batch_id=batch_id))
        await calls.report(stage("a", r.STAGE_PARSING), batch_id=batch_id)
        answer = await waiting
        assert (answer.done, answer.batch.state) == (False, r.BATCH_STATE_RUNNING)

    await with_more_time(wait, 0.2)


@pytest.mark.parametrize("requested", [{}, {"timeout": Duration(seconds=3_600)}])
async def test_wait_is_answered_just_before_its_deadline(
    calls: Calls, requested: dict[str, Any]
) -> None:
    await calls.create("a")

    async def wait(timer_s: float) -> None:
        answer = await calls.wait(within_s=timer_s, **requested)
        assert (answer.done, answer.batch) == (False, await calls.batch())

    await with_more_time(wait, 0.4)


@pytest.mark.parametrize(
    ("timeout_s", "remaining_s", "shortest_s"),
    [
        *((None, None, 50.0), (7.0, None, 7.0), (7.0, 10.0, 7.0)),
        *((None, 10.0, 9.75), (9.9, 10.0, 9.75), (None, 1.0, 0.75), (None, 0.4, 0.3)),
    ],
)
def test_answer_leaves_a_moment_to_arrive_before_the_deadline(
    timeout_s: float | None, remaining_s: float | None, shortest_s: float
) -> None:
    limit_s = waiting._limit_s(Config(), timeout_s, remaining_s)
    assert limit_s == pytest.approx(shortest_s)


async def test_batch_without_documents_is_done_once_it_is_sealed(calls: Calls) -> None:
    await calls.create(more_documents_follow=True)
    assert not (await calls.wait(timeout=BRIEFLY)).done
    await calls.seal()
    assert (await calls.wait()).done


async def test_retry_makes_the_next_wait_wait_again(calls: Calls) -> None:
    await calls.create("a")
    await calls.report(failure("a"))
    assert (await calls.wait()).done
    await calls.retry()
    assert not (await calls.wait(timeout=AT_ONCE)).done
    waiting = asyncio.create_task(calls.wait())
    await calls.report(stage("a", r.STAGE_COMPLETED))
    answer = await waiting
    assert (answer.done, answer.batch.state) == (True, r.BATCH_STATE_SUCCEEDED)


async def test_wait_for_an_unknown_batch_is_not_found(calls: Calls) -> None:
    refusal = await refused(calls.wait())
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "BATCH_NOT_FOUND")


async def test_wait_ends_with_draining_at_shutdown(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    async with contextlib.AsyncExitStack() as running:
        server = await running.enter_async_context(App(config, clock=clock))
        async with Stubs(server.grpc_address) as client:
            calls = Calls(client, dataset_id)
            await calls.create("a")
            waiting = asyncio.create_task(calls.wait())
            await calls.batch()  # sent later, and answered
            await running.aclose()
            refusal = await refused(waiting)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert refusal.retry_after_s


async def test_disconnecting_client_affects_no_other(calls: Calls) -> None:
    await calls.create("a")
    cancelled = [asyncio.create_task(calls.wait()) for _ in range(20)]
    remaining = asyncio.create_task(calls.wait())
    await calls.wait(timeout=BRIEFLY)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
    await calls.report(stage("a", r.STAGE_COMPLETED))
    assert (await remaining).done


# Without gRPC, to inspect the notifier.


async def test_nothing_is_left_of_a_wait(config: Config, clock: Clock) -> None:
    notifier = Notifier()
    store = SqliteStore(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=notifier.notify,
        on_foreign_commit=notifier.close,
    )
    waits = Waits(store, notifier, config=config)
    batch = await create(store, documents=1)
    begun = [
        asyncio.create_task(waits.wait(DATASET_ID, BATCH_ID, 30, caller=ANY_CALLER))
        for _ in range(3)
    ]
    assert not (await waits.wait(DATASET_ID, BATCH_ID, 0.01, caller=ANY_CALLER))[1]
    assert notifier.topics() == [(DATASET_ID, BATCH_ID)]
    begun[0].cancel()
    await asyncio.gather(begun[0], return_exceptions=True)
    notifier.close()
    for task in begun[1:]:
        with pytest.raises(Draining):
            await task
    assert notifier.topics() == []
    # A batch that has ended is answered also after the close.
    await move(store, batch, (0, report_of(stage=Stage.COMPLETED)))
    ended, done = await waits.wait(DATASET_ID, BATCH_ID, 30, caller=ANY_CALLER)
    assert (done, batch_state(ended)) == (True, BatchState.SUCCEEDED)
    assert notifier.topics() == []
    await store.close()


@pytest.fixture
async def store(config: Config, clock: Clock) -> AsyncIterator[SqliteStore]:
    notifier = Notifier()
    store = SqliteStore(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=notifier.notify,
        on_foreign_commit=notifier.close,
    )
    await create(store, documents=1)
    yield store
    await store.close()


async def test_wait_lives_no_longer_than_a_watch(store: SqliteStore, config: Config) -> None:
    waits = Waits(store, Notifier(), config=dataclasses.replace(config, watch_life_s=0.05))
    async with asyncio.timeout(60):
        _, done = await waits.wait(DATASET_ID, BATCH_ID, 600, caller=ANY_CALLER)
    assert not done


async def test_wait_without_timeout_uses_the_configured_one(
    store: SqliteStore, config: Config
) -> None:
    waits = Waits(store, Notifier(), config=dataclasses.replace(config, wait_s=0.05))
    async with asyncio.timeout(15):
        _, done = await waits.wait(DATASET_ID, BATCH_ID, None, caller=ANY_CALLER)
    assert not done


async def test_requested_timeout_may_exceed_the_configured_one(
    config: Config, clock: Clock
) -> None:
    notifier = Notifier()
    store = SqliteStore(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=notifier.notify,
        on_foreign_commit=notifier.close,
    )
    batch = await create(store, documents=1)
    waits = Waits(store, notifier, config=dataclasses.replace(config, wait_s=0.0))
    waiting = asyncio.create_task(waits.wait(DATASET_ID, BATCH_ID, 600, caller=ANY_CALLER))
    assert not (await waits.wait(DATASET_ID, BATCH_ID, None, caller=ANY_CALLER))[1]
    await move(store, batch, (0, report_of(stage=Stage.COMPLETED)))
    assert (await waiting)[1]
    await store.close()


async def test_default_wait_is_below_usual_proxy_timeouts() -> None:
    assert Config().wait_s < 60


async def test_expired_credentials_end_an_idle_wait(
    store: SqliteStore, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_POLL_EVERY_S", 0.01)
    results = iter((None, None, CredentialsExpired("expired")))

    def check() -> None:
        if error := next(results):
            raise error

    with pytest.raises(CredentialsExpired):
        async with asyncio.timeout(60):
            await Waits(store, Notifier(), config=config).wait(
                DATASET_ID, BATCH_ID, 600, caller=Caller(principal=ANONYMOUS, check=check)
            )


@pytest.mark.parametrize(("answers_after", "left_s"), [(1, 0.0), (10**6, 0.05)])
async def test_store_error_is_raised_at_the_end_of_the_wait(
    store: SqliteStore, config: Config, answers_after: int, left_s: float
) -> None:
    waits = Waits(store, Notifier(), config=config)
    query = Faults(answers_after)
    with pytest.raises(StoreBusy):
        async with asyncio.timeout(60):
            await waits._retry(query, asyncio.get_running_loop().time() + left_s)


async def test_drain_ends_a_wait_while_the_store_does_not_answer(
    store: SqliteStore, config: Config
) -> None:
    notifier = Notifier()
    notifier.close()
    with pytest.raises(Draining):
        async with asyncio.timeout(60):
            await Waits(store, notifier, config=config)._retry(
                Faults(10**6, retry_after_s=0.01), asyncio.get_running_loop().time() + 600
            )


class Faults:
    """A query to a store that does not answer at first."""

    def __init__(self, limit: int, *, retry_after_s: float = 600.0) -> None:
        self._left = limit
        self._retry_after_s = retry_after_s

    async def __call__(self) -> Any:
        if self._left:
            self._left -= 1
            raise StoreBusy("away", retry_after_s=self._retry_after_s)
