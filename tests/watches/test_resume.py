"""Resuming a watch: from every token, on every server, and the reason when it is impossible."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import grpc
import pytest
from sqlite_utils import Database

from stagecast.app import App
from stagecast.client import Stubs, details_of
from stagecast.config import Config
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.grpc_calls import read
from tests.validator import WatchRecord
from tests.watches.pipeline import STAGES, Pipeline


@asynccontextmanager
async def serving(config: Config, pipeline: Pipeline) -> AsyncIterator[Pipeline]:
    """Run a server on the config's file and yield the pipeline with a client of it."""
    async with App(config) as app, Stubs(app.grpc_address) as client:
        yield dataclasses.replace(pipeline, client=client)


@pytest.fixture
def nowhere(dataset_id: str) -> Pipeline:
    """A pipeline without a server."""
    return Pipeline(cast("Stubs", None), dataset_id)


async def test_every_token_resumes_at_exactly_the_next_revision(pipeline: Pipeline) -> None:
    await pipeline.create(3, more_documents_follow=True)
    tokens = {}
    async with pipeline.stream() as stream:
        for stage in STAGES:
            for document_id in pipeline.document_ids:
                message = await stream.read()
                tokens[message.revision] = message.resume_token
                await pipeline.stage(stage, document_id)
    await pipeline.seal()
    assert len(tokens) == 15
    for revision, token in tokens.items():
        received = [
            transition.revision
            async for message in pipeline.client.status.WatchBatch(
                pipeline.watch_request(resume_token=token)
            )
            for transition in message.transitions
        ]
        assert received == list(range(revision + 1, 4 + 15 + 1 + 1))


async def test_resumed_watch_sends_a_heartbeat_at_once(pipeline: Pipeline) -> None:
    """The client knows that it is connected, although there is no news."""
    await pipeline.create(1)
    async with pipeline.stream() as stream:
        last = await stream.read()
    request = pipeline.watch_request(resume_token=last.resume_token)
    request.heartbeat_interval.FromSeconds(300)
    watch = pipeline.client.status.WatchBatch(request)
    async with asyncio.timeout(60):
        message = await read(watch)
    watch.cancel()
    assert not message.HasField("snapshot")
    assert not message.transitions
    assert (message.resume_token, message.batch) == (last.resume_token, last.batch)


async def test_token_works_after_a_restart_and_on_another_server_of_the_file(
    config: Config, nowhere: Pipeline
) -> None:
    record = WatchRecord()
    async with serving(config, nowhere) as pipeline:
        await pipeline.create(2)
        async with pipeline.stream() as stream:
            record.receive(await stream.read())
        await pipeline.stage(r.STAGE_PARSING)
    record.hang_up()
    async with serving(config, pipeline) as one, serving(config, pipeline) as other:
        await one.stage(r.STAGE_CLEANING)
        async with other.stream(resume_token=record.resume_token) as stream:
            for message in await stream.read_to_revision(8):
                record.receive(message)
            await one.stage(r.STAGE_COMPLETED)
            for message in await stream.read_to_revision(10):
                record.receive(message)
            assert await stream.end() is grpc.StatusCode.OK
    assert record.snapshots == 1
    assert sorted(record.transitions) == list(range(5, 11))


async def test_transition_reported_to_one_server_is_pushed_by_another_on_the_file(
    config: Config, nowhere: Pipeline
) -> None:
    async with serving(config, nowhere) as one:
        await one.create(1)
        async with serving(config, one) as other, other.stream() as stream:
            await stream.read()
            await one.stage(r.STAGE_PARSING)
            message = await stream.read()
            assert [t.revision for t in message.transitions] == [4]


async def test_resumed_watch_is_accepted_before_any_news(pipeline: Pipeline) -> None:
    await pipeline.create(1)
    async with pipeline.stream() as stream:
        token = (await stream.read()).resume_token
    async with pipeline.stream(resume_token=token) as stream, asyncio.timeout(60):
        await stream.call.wait_for_connection()


@pytest.mark.parametrize("token", ["x", "AAAA", "not base64!", "ä", "A" * 10_000])
async def test_malformed_token_is_invalid(pipeline: Pipeline, token: str) -> None:
    await pipeline.create(1)
    async with pipeline.stream(resume_token=token) as stream:
        error = await stream.error()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details_of(error).reason == "TOKEN_INVALID"


async def test_token_with_any_letter_changed_is_invalid(pipeline: Pipeline) -> None:
    await pipeline.create(1)
    async with pipeline.stream() as stream:
        token = (await stream.read()).resume_token
    for position, letter in enumerate(token):
        changed = token[:position] + ("A" if letter != "A" else "B") + token[position + 1 :]
        async with pipeline.stream(resume_token=changed) as stream:
            error = await stream.error()
        assert details_of(error).reason == "TOKEN_INVALID"


async def test_token_of_another_batch_is_invalid(pipeline: Pipeline) -> None:
    await pipeline.create(1)
    async with pipeline.stream() as stream:
        token = (await stream.read()).resume_token
    await pipeline.create(1)
    async with pipeline.stream(resume_token=token) as stream:
        error = await stream.error()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details_of(error).reason == "TOKEN_INVALID"


async def test_token_older_than_the_retained_history_gets_a_snapshot(
    pipeline: Pipeline, config: Config
) -> None:
    token = await _token_before_three_stages(pipeline)
    # The driver that the server uses: a second SQLite in one process would break its file locks.
    with Database(config.db) as file, file.atomic():
        file.execute("DELETE FROM transitions WHERE revision < 5")
    async with pipeline.stream(resume_token=token) as stream:
        message = await stream.read_answer()
    assert message.snapshot.reason == s.SNAPSHOT_REASON_TOKEN_EXPIRED
    assert message.snapshot.complete
    assert message.revision == 6
    async with pipeline.stream(resume_token=token, fail_on_expired_token=True) as stream:
        error = await stream.error()
    assert error.code() is grpc.StatusCode.OUT_OF_RANGE
    assert details_of(error).reason == "TOKEN_EXPIRED"


async def test_restored_copy_behind_the_token_is_detected(
    config: Config, nowhere: Pipeline
) -> None:
    token, pipeline = await _restore_older_copy(config, nowhere)
    async with serving(config, pipeline) as pipeline:
        await _expect_history_changed(pipeline, token, revision=4)


async def test_restored_copy_past_the_token_is_detected(config: Config, nowhere: Pipeline) -> None:
    token, pipeline = await _restore_older_copy(config, nowhere)
    async with serving(config, pipeline) as pipeline:
        for stage in STAGES[1:-1]:
            await pipeline.stage(stage)
        await _expect_history_changed(pipeline, token, revision=7)


async def test_restored_copy_with_older_counters_is_detected(
    config: Config, nowhere: Pipeline
) -> None:
    async with serving(config, nowhere) as before:
        await before.create(3)
        await before.count("doc-0", 1, 100)
    _copy(config.db, Path(f"{config.db}.copy"))
    async with serving(config, before) as after:
        await after.count("doc-0", 50, 100)
        await after.count("doc-0", 60, 100)
        async with after.stream() as stream:
            token = (await stream.read()).resume_token
    _copy(Path(f"{config.db}.copy"), config.db)
    async with serving(config, after) as restored:
        for number, document_id in enumerate(("doc-1", "doc-2", "doc-2"), start=7):
            await restored.count(document_id, number, 100)
        await _expect_history_changed(restored, token, revision=5)


async def test_counters_resume_from_the_token_on_any_server(
    config: Config, nowhere: Pipeline
) -> None:
    async with serving(config, nowhere) as one:
        await one.create(2)
        await one.count("doc-0", 1, 9)
        async with one.stream() as stream:
            token = (await stream.read()).resume_token
    async with serving(config, one) as one, serving(config, one) as other:
        for completed, server in enumerate((one, other, one, other), start=2):
            await server.count("doc-1", completed, 9)
            async with other.stream(resume_token=token) as stream:
                message = await stream.read_answer()
            assert not message.HasField("snapshot")
            token = message.resume_token


async def test_recreated_batch_has_another_history(pipeline: Pipeline, config: Config) -> None:
    await pipeline.create(1, batch_id="again")
    async with pipeline.stream() as stream:
        token = (await stream.read()).resume_token
    _delete_all(config.db)
    await pipeline.create(1, batch_id="again")
    await _expect_history_changed(pipeline, token, revision=3)


async def test_watch_of_a_deleted_batch_ends_not_found(pipeline: Pipeline, config: Config) -> None:
    await pipeline.create(1, batch_id="again")
    async with pipeline.stream() as stream:
        await stream.read()
        _delete_all(config.db)
        error = await stream.error()
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert details_of(error).reason == "BATCH_DELETED"


async def test_watcher_far_behind_gets_each_page_with_its_batch(
    pipeline: Pipeline,
) -> None:
    await pipeline.create(900)
    record = WatchRecord()
    async with pipeline.stream() as stream:
        record.receive(await stream.read())
    for stage in STAGES:
        await pipeline.stage(stage)
    messages: list[s.WatchBatchResponse] = []
    async with pipeline.stream(resume_token=record.resume_token) as stream:
        while not messages or messages[-1].revision < 902 + 5 * 900:
            messages.append(await stream.read_answer())
            record.receive(messages[-1])
        assert await stream.end() is grpc.StatusCode.OK
    assert len(messages) > 2, "it did not all fit into one page"
    assert [m.batch.state for m in messages[:-1]] == [r.BATCH_STATE_RUNNING] * (len(messages) - 1)
    assert not any(message.batch.HasField("end_time") for message in messages[:-1])
    assert messages[-1].batch.state == r.BATCH_STATE_SUCCEEDED
    record.check_atomic(pipeline.calls)


async def test_batch_terminal_in_between_does_not_end_a_watch_behind(
    pipeline: Pipeline,
) -> None:
    await pipeline.create(1_000)
    async with pipeline.stream() as stream:
        token = (await stream.read()).resume_token
    await pipeline.stage(r.STAGE_COMPLETED)
    await pipeline.start("doc-0", "again")
    async with pipeline.stream(resume_token=token) as stream:
        message = await stream.read_transitions()
        assert message.batch.state == r.BATCH_STATE_SUCCEEDED, "the page ends at that revision"
        message = await stream.read_transitions()
        assert message.batch.state == r.BATCH_STATE_RUNNING
        await pipeline.stage(r.STAGE_COMPLETED, "doc-0")
        assert (await stream.read_transitions()).batch.state == r.BATCH_STATE_SUCCEEDED
        assert await stream.end() is grpc.StatusCode.OK


async def test_recreated_batch_ends_its_running_watch(pipeline: Pipeline, config: Config) -> None:
    await pipeline.create(1)
    async with pipeline.stream() as stream:
        await stream.read()
        # Deleted and created again between two reads: the same ids and revision, another row.
        with Database(config.db) as file, file.atomic():
            file.execute("UPDATE batches SET id = id + 1")
            file.execute("UPDATE documents SET batch = batch + 1")
            file.execute("UPDATE transitions SET batch = batch + 1")
        error = await stream.error()
    assert details_of(error).reason == "BATCH_DELETED"


async def _token_before_three_stages(pipeline: Pipeline) -> str:
    await pipeline.create(1)
    async with pipeline.stream() as stream:
        token = (await stream.read()).resume_token
    for stage in STAGES[:3]:
        await pipeline.stage(stage)
    return token


async def _restore_older_copy(config: Config, pipeline: Pipeline) -> tuple[str, Pipeline]:
    """Copy the file, write more, get a token, and restore the copy."""
    async with serving(config, pipeline) as before:
        await before.create(1)
        await before.stage(r.STAGE_PARSING)
    _copy(config.db, Path(f"{config.db}.copy"))
    async with serving(config, before) as after:
        await after.stage(r.STAGE_CLEANING)
        async with after.stream() as stream:
            token = (await stream.read()).resume_token
    _copy(Path(f"{config.db}.copy"), config.db)
    return token, after


def _copy(source: Path, target: Path) -> None:
    """Copy a file that no server has open over another."""
    for leftover in ("-wal", "-shm"):
        Path(f"{target}{leftover}").unlink(missing_ok=True)
    shutil.copy(source, target)


async def _expect_history_changed(pipeline: Pipeline, token: str, *, revision: int) -> None:
    async with pipeline.stream(resume_token=token) as stream:
        message = await stream.read_answer()
    assert message.snapshot.reason == s.SNAPSHOT_REASON_HISTORY_CHANGED
    assert message.revision == revision
    async with pipeline.stream(resume_token=token, fail_on_expired_token=True) as stream:
        error = await stream.error()
    assert error.code() is grpc.StatusCode.OUT_OF_RANGE
    assert details_of(error).reason == "HISTORY_CHANGED"


def _delete_all(db: Path) -> None:
    with Database(db) as file, file.atomic():
        for table in ("transitions", "documents", "batches"):
            file.execute(f"DELETE FROM {table}")  # noqa: S608 - three constants
