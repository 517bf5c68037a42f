"""Values at the limits of their rules, and strange ones, are accepted and stored verbatim."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast.config import Config
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from stagecast.wire import report_requests
from tests.rpc.calls import BATCH, Calls, contents, counters, new, stage, step

STRANGE = [
    "'; DROP TABLE documents; --",
    "' OR '1'='1",
    '"; DELETE FROM batches; --',
    "../../etc/passwd",
    "/",
    ".",
    "..",
    "C:\\docs\\a b.pdf",
    "https://example.com/a%2eb?c=d&e=ü#f",
    '{"a": [null]}',
    "[]",
    "null",
    "0",
    "-1",
    "1e999",
    "NaN",
    "%",
    "_",
    "%s%n{0}${x}",
    " ",
    " a ",
    "a",
    "A",
    "é",
    "e\u0301",
    "ß",
    "ẞ",
    "İ",
    "🗎",
    "\U0001d552",
    "ملف.pdf",
    "文书.pdf",
    "𠜎𠜱",
    "x" * 256,
    "文" * 256,
    "🗎" * 256,
]


async def test_strange_texts_are_stored_verbatim_in_every_field(calls: Calls) -> None:
    documents = [new(text, display_name=text, labels={text[:64]: text}) for text in STRANGE]
    created = await calls.create(*documents, labels={text[:64]: text for text in STRANGE[:32]})
    assert list(created.document_ids) == STRANGE
    assert dict(created.batch.labels) == {text[:64]: text for text in STRANGE[:32]}
    for text in STRANGE:
        await calls.start(text, worker=text)
    response = await calls.report(*(stage(text, r.STAGE_PARSING) for text in STRANGE))
    assert [result.document_id for result in response.results] == STRANGE
    page = await calls.page()
    assert [document.document_id for document in page.documents] == STRANGE
    for text in STRANGE:
        document = await calls.document(text)
        assert document.display_name == document.worker == text
        assert dict(document.labels) == {text[:64]: text}
        assert document.stage == r.STAGE_PARSING
    assert (await calls.batch()).counts == r.DocumentCounts(
        total=len(STRANGE), running=len(STRANGE)
    )


async def test_strange_texts_reach_a_watcher_verbatim(calls: Calls) -> None:
    await calls.create(more_documents_follow=True)
    token = await calls.token()
    await calls.add(*STRANGE)
    assert [each.document.document_id for each in await calls.since(token)] == STRANGE


async def test_strange_ids_can_be_paused_resumed_stopped_and_retried(calls: Calls) -> None:
    await calls.create(*STRANGE)
    for text in STRANGE:
        for call in (calls.pause, calls.resume, calls.stop, calls.retry):
            assert (await call(text)).changed_documents == 1
        history = await calls.history(text)
        assert [each.document.document_id for each in history] == [text] * 5
    assert (await calls.batch()).counts == r.DocumentCounts(
        total=len(STRANGE), pending=len(STRANGE)
    )


async def test_error_message_may_be_any_text(calls: Calls) -> None:
    texts = ["", "\n", "\x00\x01\x7f", "line 1\r\nline 2\ttab", "\u2028\u202e\ufeff", "🗎" * 4_096]
    ids = [f"doc-{number}" for number in range(len(texts))]
    await calls.create(*ids)
    await calls.report(
        *(
            rs.DocumentReport(document_id=each, error=r.DocumentError(reason="X", message=text))
            for each, text in zip(ids, texts, strict=True)
        )
    )
    actual = [(await calls.document(each)).error.message for each in ids]
    assert actual == texts


async def test_values_at_their_limits_are_accepted(calls: Calls) -> None:
    labels = {f"{number:02}" + "k" * 62: "v" * 256 for number in range(32)}
    created = await calls.create(
        new("d" * 256, display_name="n" * 256, labels=labels),
        batch_id="b" * 128,
        labels=labels,
        stall_after=Duration(seconds=1),
        fail_after=Duration(seconds=365 * 86_400),
        request_id="r" * 128,
        dataset_name="🗎" * 256,
    )
    assert (await calls.dataset()).display_name == "🗎" * 256
    assert dict(created.batch.labels) == labels
    assert created.batch.stall_after == Duration(seconds=1)
    assert created.batch.fail_after == Duration(seconds=365 * 86_400)
    request_only = await calls.create("a", batch_id="", request_id="🗎" * 128)
    assert request_only.batch.batch_id
    await calls.create("a", "b", "c")
    assert (await calls.start("a", worker="w" * 256)).document.worker == "w" * 256
    limit = report_requests._MAX_SEGMENTS
    error = r.DocumentError(reason="R" * 64, message="m" * 4_096)
    longest = step("a", "🗎" * 64, limit, limit)
    await calls.report(
        counters("a", limit, limit), longest, stage("b", r.STAGE_INDEXING, error=error)
    )
    assert (await calls.document("a")).progress == r.Progress(
        completed_segments=limit, total_segments=limit, step=longest.progress.step
    )
    assert (await calls.document("b")).error == error


async def test_event_times_at_the_limits_of_the_calendar_are_stored(calls: Calls) -> None:
    times = [
        Timestamp(seconds=-62_135_596_800),
        Timestamp(seconds=-1, nanos=999_999_000),
        Timestamp(),
        Timestamp(seconds=253_402_300_799, nanos=999_999_000),
    ]
    ids = [f"doc-{number}" for number in range(len(times))]
    await calls.create(*ids)
    token = await calls.token()
    await calls.report(
        *(
            stage(each, r.STAGE_PARSING, event_time=time)
            for each, time in zip(ids, times, strict=True)
        )
    )
    assert [each.event_time for each in await calls.since(token)] == times


async def test_heartbeat_intervals_at_their_limits_are_accepted(calls: Calls) -> None:
    await calls.create()
    for interval in (Duration(seconds=1), Duration(seconds=300)):
        [message] = await calls.watch(heartbeat_interval=interval)
        assert message.snapshot.reason == ss.SNAPSHOT_REASON_INITIAL


async def test_timeouts_at_their_limits_are_accepted(calls: Calls) -> None:
    await calls.create()
    for timeout in (Duration(), Duration(nanos=1), Duration(seconds=3_600)):
        assert (await calls.wait(timeout=timeout)).done


async def test_deleting_a_batch_id_at_its_limits_deletes_no_other(calls: Calls) -> None:
    names = ["b" * 128, "~", "...", "-", "_", "0", "A", "a"]
    for name in names:
        await calls.create("a", batch_id=name)
    for deleted, name in enumerate(names, 1):
        await calls.delete_batch(batch_id=name)
        listed = await calls.client.status.ListBatches(ss.ListBatchesRequest())
        assert [each.batch_id for each in listed.batches] == names[deleted:][::-1]


async def test_unicode_forms_of_one_text_are_different_documents(
    calls: Calls, config: Config
) -> None:
    await calls.create("é", "e\u0301", "E\u0301", "É")
    await calls.report(stage("e\u0301", r.STAGE_COMPLETED))
    assert (await calls.document("é")).state == r.DOCUMENT_STATE_PENDING
    assert (await calls.document("e\u0301")).state == r.DOCUMENT_STATE_SUCCEEDED
    assert len(contents(config.db)["documents"]) == 4


async def test_unknown_fields_are_ignored(calls: Calls) -> None:
    """A client may be newer than the server."""
    unknown = b"\xba\x3e\x03new"  # field 999, a text
    request = ss.GetBatchRequest(dataset_id=calls.dataset_id, batch_id=BATCH)
    newer = ss.GetBatchRequest.FromString(request.SerializeToString() + unknown)
    await calls.create("a")
    assert (await calls.client.status.GetBatch(newer)).batch == await calls.batch()
