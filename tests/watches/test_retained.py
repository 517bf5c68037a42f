"""Watches of batches with trimmed history: before, at and after the first retained revision."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from functools import partial

import grpc
import pytest

from stagecast.app import App
from stagecast.client import Stubs, details_of
from stagecast.config import Config
from stagecast.errors import StoreBusy, TokenExpired, WatchExpired
from stagecast.model import ALL, Batch
from stagecast.notifier import Notifier
from stagecast.store import HistoryLimit
from stagecast.store.sqlite import SqliteStore
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from stagecast.watches import BatchWatches
from tests.builders import BATCH_ID, DATASET_ID, ENCODER, create, move, watch_request
from tests.clock import Clock
from tests.conditions import until
from tests.grpc_calls import read
from tests.store.history import ended, make_ended, retried
from tests.validator import WatchRecord
from tests.watches.pipeline import STAGES, Pipeline
from tests.watches.reading import messages_of, open_batch_watches

LAST = 8  # created, registered, sealed, and five stages


@pytest.fixture
def config(config: Config) -> Config:
    """Settings of a server that retains three transitions."""
    return replace(config, retain_transitions=3, retain_every_s=0.01)


@pytest.fixture
async def tokens(pipeline: Pipeline, clock: Clock) -> dict[int, str]:
    """The tokens of a batch by revision; its history before revision 6 was trimmed."""
    actual = await _run_to_its_end(pipeline)
    clock.advance(3_600)
    await _until_history_begins_at(pipeline, 6)
    return actual


@pytest.mark.parametrize("revision", [6, 7, 8])
async def test_token_within_the_retained_history_resumes(
    pipeline: Pipeline, tokens: dict[int, str], revision: int
) -> None:
    for fields in ({}, {"fail_on_expired_token": True}):
        messages = await _watch(pipeline, resume_token=tokens[revision], **fields)
        assert not any(message.HasField("snapshot") for message in messages)
        revisions = [t.revision for message in messages for t in message.transitions]
        assert revisions == [*range(revision + 1, LAST + 1)]
        assert messages[-1].batch.state == r.BATCH_STATE_SUCCEEDED


@pytest.mark.parametrize("revision", [3, 4, 5])
async def test_token_before_the_retained_history_gets_a_snapshot(
    pipeline: Pipeline, tokens: dict[int, str], revision: int
) -> None:
    [message] = await _watch(pipeline, resume_token=tokens[revision])
    assert message.snapshot.reason == s.SNAPSHOT_REASON_TOKEN_EXPIRED
    assert message.snapshot.complete
    assert (message.revision, message.batch.state) == (LAST, r.BATCH_STATE_SUCCEEDED)
    assert {document.document_id: document for document in message.snapshot.documents} == (
        await pipeline.documents()
    )
    async with pipeline.stream(resume_token=tokens[revision], fail_on_expired_token=True) as stream:
        error = await stream.error()
    assert error.code() is grpc.StatusCode.OUT_OF_RANGE
    assert details_of(error).reason == "TOKEN_EXPIRED"
    assert f"resume token expired: revision {revision} of batch" in (error.details() or "")


async def test_client_with_an_expired_token_gets_the_current_state(
    pipeline: Pipeline, tokens: dict[int, str]
) -> None:
    record = WatchRecord()
    async for message in pipeline.client.watch(pipeline.watch_request(resume_token=tokens[4])):
        record.receive(message)
    assert record.snapshots == 1
    assert record.documents == await pipeline.documents()


async def test_reopened_batch_resumes_from_every_retained_token(
    pipeline: Pipeline, tokens: dict[int, str], clock: Clock
) -> None:
    """It keeps its history as long as it is open."""
    await pipeline.start("doc-0", "again")
    clock.advance(86_400)
    async with pipeline.stream(resume_token=tokens[6]) as stream:
        messages = await stream.read_to_revision(LAST + 1)
        for stage in STAGES:
            await pipeline.stage(stage)
            messages += await stream.read_to_revision(messages[-1].revision + 1)
        assert await stream.end() is grpc.StatusCode.OK
    revisions = [t.revision for message in messages for t in message.transitions]
    assert revisions == [*range(7, LAST + 1 + 5 + 1)]
    assert await _history(pipeline) == [*range(6, LAST + 1 + 5 + 1)]
    clock.advance(86_400)
    await _until_history_begins_at(pipeline, LAST + 1 + 5 - 2)
    [message] = await _watch(pipeline, resume_token=tokens[6])
    assert message.snapshot.reason == s.SNAPSHOT_REASON_TOKEN_EXPIRED


async def test_open_batch_keeps_its_whole_history(pipeline: Pipeline, clock: Clock) -> None:
    await pipeline.create(2, stall_after={"seconds": 0})
    async with pipeline.stream() as stream:
        token = (await stream.read()).resume_token
    first = (pipeline.batch_id, pipeline.document_ids)
    for stage in STAGES:
        await pipeline.stage(stage, "doc-0")
    clock.advance(86_400)
    # Retention has run: another batch, which has ended, loses its history.
    await _run_to_its_end(pipeline)
    clock.advance(86_400)
    await _until_history_begins_at(pipeline, 6)
    pipeline.batch_id, pipeline.document_ids = first
    async with pipeline.stream(resume_token=token) as stream:
        message = await stream.read_answer()
    assert [t.revision for t in message.transitions] == [*range(5, 10)]


async def test_watches_end_when_retention_deletes_the_batch(
    config: Config, dataset_id: str, clock: Clock
) -> None:
    settings = replace(config, retain_transitions=None, retain_batches_s=86_400.0)
    async with App(settings, clock=clock) as app, Stubs(app.grpc_address) as client:
        pipeline = Pipeline(client, dataset_id)
        tokens = await _run_to_its_end(pipeline)
        datasets = client.status.WatchDatasets(
            s.WatchDatasetsRequest(dataset_ids=[dataset_id]), timeout=60
        )
        assert (await read(datasets)).datasets[0].batches == 1
        async with pipeline.stream(follow=True, resume_token=tokens[LAST]) as stream:
            await stream.call.wait_for_connection()
            clock.advance(86_400)
            error = await stream.error()
        assert error.code() is grpc.StatusCode.NOT_FOUND
        assert details_of(error).reason == "BATCH_DELETED"
        [dataset] = (await read(datasets)).datasets
        datasets.cancel()
        assert (dataset.batches, dataset.counts.total) == (0, 0)
        assert dataset.state == r.DATASET_STATE_SUCCEEDED
        async with pipeline.stream(resume_token=tokens[LAST]) as stream:
            assert details_of(await stream.error()).reason == "BATCH_NOT_FOUND"


# Watches that lag behind, without a server.


@dataclass
class Behind:
    """Watches on a store whose commits notify nobody until a test does."""

    store: SqliteStore
    notifier: Notifier
    watches: BatchWatches
    clock: Clock

    @contextlib.asynccontextmanager
    async def watch(self, **fields: object) -> AsyncIterator[AsyncGenerator[bytes]]:
        watch = partial(self.watches.watch, watch_request(**({"follow": True} | fields)))
        async with contextlib.aclosing(messages_of(watch)) as messages:
            yield messages

    async def trim(self, keep: int = 1) -> None:
        limit = HistoryLimit(ended_until=self.clock.now_us, keep=keep)
        while await self.store.write(lambda tx: tx.trim(limit, 1_000), visible=ALL):
            pass

    async def until_waiting(self, watches: int) -> None:
        """Wait until this number of watches waits for the tail, and the tail for news."""

        def are_waiting() -> bool:
            tail, _ = self.watches._tails._tails[DATASET_ID, BATCH_ID]
            waiting = sum(follower.waiting for follower in tail.followers)
            return tail.end is not None and tail.end.revision == 11 and waiting == watches

        await until(are_waiting)

    def notify(self) -> None:
        self.notifier.notify({(DATASET_ID, BATCH_ID)})


@pytest.fixture
async def behind(config: Config, clock: Clock) -> AsyncIterator[Behind]:
    store = SqliteStore(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=lambda _: None,
        on_foreign_commit=lambda: None,
    )
    notifier = Notifier()
    watches = open_batch_watches(store, notifier, config, clock)
    yield Behind(store, notifier, watches, clock)
    await store.close()


async def _next(messages: AsyncGenerator[bytes]) -> s.WatchBatchResponse:
    async with asyncio.timeout(60):
        return s.WatchBatchResponse.FromString(await anext(messages))


async def _read_snapshot(messages: AsyncGenerator[bytes]) -> None:
    while not (await _next(messages)).snapshot.complete:
        pass


async def _retry_and_end(behind: Behind, batch: Batch, times: int = 3) -> None:
    for _ in range(times):
        await move(behind.store, batch, (0, retried), (0, ended))


async def test_watch_restarts_when_its_next_transitions_were_trimmed(behind: Behind) -> None:
    batch = await make_ended(behind.store)
    record = WatchRecord()
    async with behind.watch() as one, behind.watch(transitions_only=True) as other:
        for messages in (one, other):
            assert (await _next(messages)).revision == 11
        following = [asyncio.create_task(_next(messages)) for messages in (one, other)]
        await behind.until_waiting(2)
        await _retry_and_end(behind, batch)
        await behind.trim(keep=4)
        behind.notify()
        for message in await asyncio.gather(*following):
            assert message.snapshot.reason == s.SNAPSHOT_REASON_TOKEN_EXPIRED
            assert (message.snapshot.complete, message.revision) == (True, 17)
            record = WatchRecord()
            record.receive(message)
        # It continues after it, pushed by the tail as before.
        await move(behind.store, batch, (1, retried))
        behind.notify()
        for messages in (one, other):
            message = await _next(messages)
            assert [t.revision for t in message.transitions] == [18]
        record.receive(message)


async def test_watch_that_lags_within_the_retained_log_misses_nothing(behind: Behind) -> None:
    batch = await make_ended(behind.store)
    async with behind.watch() as messages:
        assert (await _next(messages)).revision == 11
        following = asyncio.create_task(_next(messages))
        await behind.until_waiting(1)
        await _retry_and_end(behind, batch)
        await behind.trim(keep=6)
        behind.notify()
        assert [t.revision for t in (await following).transitions] == [*range(12, 18)]


async def test_fail_on_expired_token_ends_a_lagging_watch(behind: Behind) -> None:
    batch = await make_ended(behind.store)
    async with behind.watch(fail_on_expired_token=True) as messages:
        await _next(messages)
        following = asyncio.create_task(_next(messages))
        await behind.until_waiting(1)
        await _retry_and_end(behind, batch)
        await behind.trim()
        behind.notify()
        with pytest.raises(TokenExpired, match="resume token expired: revision 11 of batch"):
            await following


async def test_watch_trimmed_inside_a_call_expires(
    behind: Behind,
) -> None:
    """A snapshot after part of a call could be mistaken for the rest of the call."""
    batch = await create(behind.store, documents=1_100)
    record = WatchRecord()
    async with behind.watch() as messages:
        while not record.resume_token:
            record.receive(await _next(messages))
    await move(behind.store, batch, *[(number, ended) for number in range(1_100)])
    async with behind.watch(resume_token=record.resume_token) as messages:
        while not (part := await _next(messages)).transitions:
            assert not part.resume_token, "it is a heartbeat"
        assert not part.resume_token
        await behind.trim()
        with pytest.raises(WatchExpired, match="watch again with the last token"):
            await _next(messages)
    async with behind.watch(resume_token=record.resume_token) as messages:
        record.receive(await _next(messages))
    assert record.snapshots == 2


@pytest.mark.slow
async def test_lagging_watch_of_a_trimmed_snapshot_fails(
    behind: Behind,
) -> None:
    """A snapshot that can no longer be read as of its revision is not completed."""
    batch = await create(behind.store, documents=12_000)
    async with behind.watch() as messages:
        assert not (await _next(messages)).snapshot.complete
        [shared] = behind.watches.snapshots._users
        shared.drop()  # the rest has to be read again
        for step in (ended, retried, ended):
            await move(behind.store, batch, *[(number, step) for number in range(12_000)])
        await behind.trim()
        with pytest.raises(StoreBusy, match="no longer retained"):
            await _read_snapshot(messages)


# Helpers.


async def _run_to_its_end(pipeline: Pipeline) -> dict[int, str]:
    """Run a batch of one document and return the tokens of its watch by revision."""
    await pipeline.create(1)
    tokens: dict[int, str] = {}
    async with pipeline.stream() as stream:
        for stage in STAGES:
            message = await stream.read()
            tokens[message.revision] = message.resume_token
            await pipeline.stage(stage)
        message = await stream.read()
        tokens[message.revision] = message.resume_token
        assert await stream.end() is grpc.StatusCode.OK
    assert [*tokens] == [*range(3, LAST + 1)]
    return tokens


async def _watch(pipeline: Pipeline, **fields: object) -> list[s.WatchBatchResponse]:
    """Watch to the end."""
    async with asyncio.timeout(60):
        return [
            message
            async for message in pipeline.client.status.WatchBatch(pipeline.watch_request(**fields))
        ]


async def _history(pipeline: Pipeline) -> list[int]:
    page = await pipeline.client.status.ListTransitions(
        s.ListTransitionsRequest(
            dataset_id=pipeline.dataset_id, batch_id=pipeline.batch_id, page_size=1_000
        )
    )
    return [transition.revision for transition in page.transitions]


async def _until_history_begins_at(pipeline: Pipeline, revision: int) -> None:
    actual: list[int] = []

    async def read_history() -> None:
        actual[:] = await _history(pipeline)

    await until(lambda: actual[:1] == [revision], meanwhile=read_history)
