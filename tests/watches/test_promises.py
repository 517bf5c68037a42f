"""The guarantees of WatchBatch: complete, ordered, atomic, with heartbeats and a final status."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from stagecast.client import details_of
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.validator import WatchRecord
from tests.watches.pipeline import STAGES, Pipeline


async def test_watch_starts_with_the_snapshot_then_sends_each_transition(
    pipeline: Pipeline,
) -> None:
    batch = await pipeline.create(2)
    async with pipeline.stream() as stream:
        first = await stream.read()
        assert first.snapshot.reason == s.SNAPSHOT_REASON_INITIAL
        assert first.snapshot.complete
        assert [d.document_id for d in first.snapshot.documents] == ["doc-0", "doc-1"]
        assert first.revision == first.batch.revision == batch.revision == 4
        await pipeline.stage(r.STAGE_PARSING, "doc-1")
        message = await stream.read()
    [transition] = message.transitions
    assert transition.revision == 5
    assert transition.kind == r.TRANSITION_KIND_STAGE_ENTERED
    assert transition.document.document_id == "doc-1"
    assert transition.previous_state == r.DOCUMENT_STATE_PENDING
    assert message.batch.counts.running == 1


async def test_snapshot_of_a_batch_without_documents_is_one_empty_part(pipeline: Pipeline) -> None:
    await pipeline.create(0, more_documents_follow=True)
    async with pipeline.stream() as stream:
        first = await stream.read()
    assert first.snapshot.complete
    assert not first.snapshot.documents
    assert first.resume_token


async def test_only_the_last_part_of_a_large_snapshot_has_a_token(
    pipeline: Pipeline,
) -> None:
    labels = {f"label-{n}": "x" * 200 for n in range(10)}
    await pipeline.create(0, more_documents_follow=True)
    for start in range(0, 3_000, 1_000):
        await _add(pipeline, [f"doc-{start + n}" for n in range(1_000)], labels)
    async with pipeline.stream() as stream:
        parts = await stream.read_to_revision(3_001)
    assert len(parts) > 3
    assert all(part.ByteSize() < 2 << 20 for part in parts)
    assert [bool(part.resume_token) for part in parts] == [False] * (len(parts) - 1) + [True]
    record = WatchRecord()
    for part in parts:
        record.receive(part)
    assert list(record.documents) == [f"doc-{n}" for n in range(3_000)]


async def test_changes_of_one_call_arrive_in_one_message(pipeline: Pipeline) -> None:
    await pipeline.create(500)
    async with pipeline.stream() as stream:
        await stream.read()
        for stage in STAGES[:-1]:
            await pipeline.stage(stage)
        messages = await stream.read_to_revision(502 + 4 * 500)
    assert all(len(message.transitions) % 500 == 0 for message in messages)


async def test_call_too_large_for_a_message_is_split_with_one_token_at_its_end(
    pipeline: Pipeline,
) -> None:
    await pipeline.create(0, more_documents_follow=True)
    record = WatchRecord()
    async with pipeline.stream() as stream:
        record.receive(await stream.read())
        await _add(pipeline, [f"doc-{n}" for n in range(5_000)], {"a": "b"})
        messages = await stream.read_to_revision(5_001)
    assert len(messages) > 1
    assert [bool(m.resume_token) for m in messages] == [False] * (len(messages) - 1) + [True]
    for message in messages:
        record.receive(message)
    record.check_atomic([range(2, 5_002)])


@pytest.mark.slow
async def test_stream_lost_inside_a_call_repeats_the_whole_call(
    pipeline: Pipeline,
) -> None:
    await pipeline.create(0, more_documents_follow=True)
    record = WatchRecord()
    async with pipeline.stream() as stream:
        record.receive(await stream.read())
        await _add(pipeline, [f"doc-{n}" for n in range(5_000)], {"a": "b"})
        part = await stream.read()
        assert not part.resume_token
        record.receive(part)
    record.hang_up()
    async with pipeline.stream(resume_token=record.resume_token) as stream:
        for message in await stream.read_to_revision(5_001):
            record.receive(message)
    assert record.snapshots == 1
    assert len(record.transitions) == 5_000


async def test_progress_is_pushed_as_the_newest_value_without_a_revision(
    pipeline: Pipeline,
) -> None:
    batch = await pipeline.create(2)
    async with pipeline.stream() as stream:
        await stream.read()
        await pipeline.count("doc-0", 3, 10)
        message = await stream.read()
        assert not message.transitions
        [news] = message.progress
        assert (news.document_id, news.attempt) == ("doc-0", 1)
        assert (news.progress.completed_segments, news.progress.total_segments) == (3, 10)
        assert message.revision == message.batch.revision == batch.revision
        assert message.batch.progress.completed_segments == 3
        assert not message.batch.progress.HasField("total_segments"), "doc-1 has no total yet"


async def test_resumed_watch_gets_the_progress_that_changed_meanwhile(pipeline: Pipeline) -> None:
    await pipeline.create(3)
    await pipeline.count("doc-0", 1, 10)
    async with pipeline.stream() as stream:
        token = (await stream.read()).resume_token
    await pipeline.count("doc-1", 4, 10)
    await pipeline.count("doc-1", 5, 10)
    async with pipeline.stream(resume_token=token) as stream:
        message = await stream.read_answer()
    assert [(p.document_id, p.progress.completed_segments) for p in message.progress] == [
        ("doc-1", 5)
    ]


async def test_transitions_only_leaves_progress_out(pipeline: Pipeline) -> None:
    await pipeline.create(1)
    async with pipeline.stream(transitions_only=True) as stream:
        assert (await stream.read()).snapshot.complete
        await pipeline.count("doc-0", 1, 10)
        await pipeline.stage(r.STAGE_PARSING)
        message = await stream.read()
    assert len(message.transitions) == 1
    assert not message.progress


@pytest.mark.slow
async def test_heartbeat_has_the_token_and_no_entries(pipeline: Pipeline) -> None:
    await pipeline.create(1)
    async with pipeline.stream(heartbeat_interval=Duration(seconds=1)) as stream:
        first = await stream.read()
        heartbeat = await stream.read()
    assert not heartbeat.HasField("snapshot")
    assert not heartbeat.transitions
    assert not heartbeat.progress
    assert heartbeat.resume_token == first.resume_token
    assert heartbeat.batch == first.batch
    assert heartbeat.HasField("server_time")


async def test_watch_ends_ok_with_the_terminal_batch_in_its_last_message(
    pipeline: Pipeline,
) -> None:
    await pipeline.create(2)
    async with pipeline.stream() as stream:
        await stream.read()
        await pipeline.stage(r.STAGE_COMPLETED)
        last = (await stream.read_to_revision(6))[-1]
        assert last.batch.state == r.BATCH_STATE_SUCCEEDED
        assert last.batch.HasField("end_time")
        assert await stream.end() is grpc.StatusCode.OK


async def test_watch_of_a_terminal_batch_is_its_snapshot_and_ok(pipeline: Pipeline) -> None:
    await pipeline.create(2)
    await pipeline.stage(r.STAGE_COMPLETED)
    record = await pipeline.record()
    assert record.messages == 1
    assert record.batch is not None
    assert record.batch.state == r.BATCH_STATE_SUCCEEDED


async def test_resumed_at_the_end_gets_the_terminal_batch_once_and_ok(pipeline: Pipeline) -> None:
    await pipeline.create(1)
    await pipeline.stage(r.STAGE_COMPLETED)
    record = await pipeline.record()
    async with pipeline.stream(resume_token=record.resume_token) as stream:
        message = await stream.read_answer()
        assert not message.transitions
        assert message.batch.state == r.BATCH_STATE_SUCCEEDED
        assert await stream.end() is grpc.StatusCode.OK


async def test_unsealed_batch_keeps_its_watch_open_until_it_is_sealed(pipeline: Pipeline) -> None:
    await pipeline.create(1, more_documents_follow=True)
    async with pipeline.stream() as stream:
        await stream.read()
        await pipeline.stage(r.STAGE_COMPLETED)
        message = await stream.read()
        assert message.batch.state == r.BATCH_STATE_RUNNING
        await pipeline.seal()
        message = await stream.read()
        assert message.transitions[-1].kind == r.TRANSITION_KIND_SEALED
        assert message.batch.state == r.BATCH_STATE_SUCCEEDED
        assert await stream.end() is grpc.StatusCode.OK


async def test_follow_continues_after_the_batch_is_terminal(
    pipeline: Pipeline,
) -> None:
    await pipeline.create(1)
    await pipeline.stage(r.STAGE_COMPLETED)
    async with pipeline.stream(follow=True) as stream:
        assert (await stream.read()).batch.state == r.BATCH_STATE_SUCCEEDED
        await pipeline.start("doc-0", "again")
        message = await stream.read()
        assert message.transitions[0].kind == r.TRANSITION_KIND_STARTED
        assert message.batch.state == r.BATCH_STATE_RUNNING
        assert not message.batch.HasField("end_time")


async def test_takeover_and_new_attempts_arrive_in_order(pipeline: Pipeline) -> None:
    await pipeline.create(2)
    record = WatchRecord()
    async with pipeline.stream() as stream:
        record.receive(await stream.read())
        await pipeline.start("doc-0", "one")
        await pipeline.stage(r.STAGE_INDEXING, "doc-0")
        await pipeline.count("doc-0", 5, 9)
        await pipeline.start("doc-0", "two")
        await pipeline.count("doc-0", 1, 3)
        await pipeline.stage(r.STAGE_COMPLETED)
        while record.revision < 9:
            record.receive(await stream.read())
    assert record.documents["doc-0"].attempt == 2
    assert record.documents["doc-0"].worker == "two"
    assert record.documents["doc-0"].progress.completed_segments == 1


async def test_unknown_batch_is_not_found(pipeline: Pipeline) -> None:
    pipeline.batch_id = "nothing"
    async with pipeline.stream() as stream:
        error = await stream.error()
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert details_of(error).reason == "BATCH_NOT_FOUND"


@pytest.mark.slow
async def test_hundred_watchers_of_a_busy_batch_all_receive_the_same(pipeline: Pipeline) -> None:
    await pipeline.create(20)
    watching = [asyncio.create_task(pipeline.record()) for _ in range(100)]
    for stage in STAGES:
        await pipeline.stage(stage, *pipeline.document_ids[:10])
        for document_id in pipeline.document_ids[10:]:
            await pipeline.stage(stage, document_id)
    stored = await pipeline.documents()
    for record in await asyncio.gather(*watching):
        assert record.documents == stored
        record.check_atomic(pipeline.calls)


async def _add(pipeline: Pipeline, document_ids: list[str], labels: dict[str, str]) -> None:
    await pipeline.client.reports.AddDocuments(
        pb.AddDocumentsRequest(
            dataset_id=pipeline.dataset_id,
            batch_id=pipeline.batch_id,
            documents=[pb.NewDocument(document_id=d, labels=labels) for d in document_ids],
        )
    )
