"""ControlService: Pause, Resume, Stop, Retry.

The workers of paused or stopped documents, and deletion, have their own files.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import pytest

from stagecast.app import App
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.clock import START_US, Clock
from tests.grpc_calls import read
from tests.rpc.calls import BATCH, Calls, counters, failure, moment, new, refused, stage
from tests.validator import WatchRecord

PENDING, RUNNING, PAUSED = (
    r.DOCUMENT_STATE_PENDING,
    r.DOCUMENT_STATE_RUNNING,
    r.DOCUMENT_STATE_PAUSED,
)
SUCCEEDED, FAILED, STOPPED = (
    r.DOCUMENT_STATE_SUCCEEDED,
    r.DOCUMENT_STATE_FAILED,
    r.DOCUMENT_STATE_STOPPED,
)

# One document for each state; two are PAUSED, one of them after its start.
NAMES = ("pending", "running", "held", "held-running", "succeeded", "failed", "stopped")
BEFORE = dict(
    zip(NAMES, (PENDING, RUNNING, PAUSED, PAUSED, SUCCEEDED, FAILED, STOPPED), strict=True)
)

# The state of a named document after each call; documents not listed do not change.
NAMED = {
    "pause": {"pending": PAUSED, "running": PAUSED},
    "resume": {"held": PENDING, "held-running": RUNNING},
    "stop": dict.fromkeys(("pending", "running", "held", "held-running"), STOPPED),
    "retry": dict.fromkeys(("succeeded", "failed", "stopped"), PENDING),
}
# Retry of a whole batch leaves succeeded documents as they are.
WHOLE = NAMED | {"retry": dict.fromkeys(("failed", "stopped"), PENDING)}

KINDS = {
    "pause": r.TRANSITION_KIND_PAUSED,
    "resume": r.TRANSITION_KIND_RESUMED,
    "stop": r.TRANSITION_KIND_STOPPED,
    "retry": r.TRANSITION_KIND_RETRIED,
}

Control = Callable[..., Awaitable[Any]]


def _control(calls: Calls, name: str) -> Control:
    control: Control = getattr(calls, name)
    return control


async def _create_all_states(calls: Calls) -> None:
    await calls.create(*NAMES)
    await calls.start("running")
    await calls.start("held-running")
    await calls.report(stage("succeeded", r.STAGE_COMPLETED), failure("failed"))
    await calls.pause("held")
    await calls.pause("held-running")
    await calls.stop("stopped")


async def _states(calls: Calls) -> dict[str, r.DocumentState.ValueType]:
    return {each.document_id: each.state for each in (await calls.page()).documents}


# States.


@pytest.mark.parametrize("call", NAMED)
async def test_named_document_changes_as_in_the_table(
    calls: Calls, call: str, subtests: pytest.Subtests
) -> None:
    for name in NAMES:
        with subtests.test(name):
            await _check_named(Calls(calls.client, str(uuid.uuid4())), call, name)


async def _check_named(calls: Calls, call: str, name: str) -> None:
    await _create_all_states(calls)
    before = await calls.batch()
    after = NAMED[call].get(name)
    answer = await _control(calls, call)(name)
    assert answer.changed_documents == (after is not None)
    assert answer.batch == await calls.batch()
    assert answer.batch.revision == before.revision + (after is not None)
    assert await _states(calls) == BEFORE | ({} if after is None else {name: after})


@pytest.mark.parametrize("call", WHOLE)
async def test_whole_batch_changes_as_in_the_table(calls: Calls, call: str) -> None:
    await _create_all_states(calls)
    before = await calls.batch()
    answer = await _control(calls, call)()
    assert answer.changed_documents == len(WHOLE[call])
    assert answer.batch == await calls.batch()
    assert answer.batch.revision == before.revision + len(WHOLE[call])
    assert await _states(calls) == BEFORE | WHOLE[call]


@pytest.mark.parametrize("call", WHOLE)
async def test_repeat_changes_nothing(calls: Calls, call: str) -> None:
    await _create_all_states(calls)
    for name in (next(iter(WHOLE[call])), ""):
        first = await _control(calls, call)(name)
        assert first.changed_documents
        documents = (await calls.page()).documents
        again = await _control(calls, call)(name)
        assert again.changed_documents == 0
        assert again.batch == first.batch
        assert (await calls.page()).documents == documents


@pytest.mark.parametrize("call", WHOLE)
async def test_call_changes_no_other_batch(calls: Calls, call: str) -> None:
    await _create_all_states(calls)
    await calls.create(*NAMES, batch_id="other")
    before = await calls.batch(batch_id="other")
    await _control(calls, call)()
    assert await calls.batch(batch_id="other") == before


async def test_batch_without_documents_has_nothing_to_change(calls: Calls) -> None:
    await calls.create(more_documents_follow=True)
    before = await calls.batch()
    for call in WHOLE:
        answer = await _control(calls, call)()
        assert (answer.changed_documents, answer.batch) == (0, before)


# Log and watch.


@pytest.mark.parametrize("call", WHOLE)
async def test_each_change_is_a_transition_in_the_order_of_registration(
    calls: Calls, call: str
) -> None:
    await _create_all_states(calls)
    token = await calls.token()
    await _control(calls, call)()
    reported = await calls.since(token)
    assert [each.document.document_id for each in reported] == [
        name for name in NAMES if name in WHOLE[call]
    ]
    for transition in reported:
        assert transition.kind == KINDS[call]
        assert transition.previous_state == BEFORE[transition.document.document_id]
        assert transition.document == await calls.document(transition.document.document_id)
    assert (await calls.history())[-len(reported) :] == reported


async def test_change_of_a_whole_batch_has_one_token(calls: Calls) -> None:
    """The documents are too large for one message."""
    labels = {f"{number:02}": "文" * 256 for number in range(32)}
    ids = [f"doc-{number}" for number in range(120)]
    await calls.create(more_documents_follow=True)
    for first in range(0, 120, 60):
        await calls.add(*(new(each, labels=labels) for each in ids[first : first + 60]))
    request = ss.WatchBatchRequest(dataset_id=calls.dataset_id, batch_id=BATCH)
    watch = calls.client.status.WatchBatch(request, timeout=60)
    record = WatchRecord()
    while not record.snapshots:
        record.receive(await read(watch))
    before, messages = record.revision, record.messages
    changed = range(before + 1, (await calls.pause()).batch.revision + 1)
    assert len(changed) == 120
    while record.revision < changed[-1]:
        record.receive(await read(watch))
    watch.cancel()
    assert record.messages > messages + 1, "it took several messages"
    record.check_atomic([changed])


async def test_no_watcher_sees_half_a_call(calls: Calls) -> None:
    """Also not a watcher that starts, from a token or with a snapshot, during the calls."""
    ids = [f"doc-{number}" for number in range(40)]
    await calls.create(*ids, more_documents_follow=True)
    made: list[range] = []

    async def control() -> None:
        for call in (calls.pause, calls.resume) * 5 + (calls.stop,):
            answer = await call()
            last = answer.batch.revision
            made.append(range(last - answer.changed_documents + 1, last + 1))
        await calls.seal()

    async def watch() -> WatchRecord:
        record = WatchRecord()
        for message in await calls.watch():
            record.receive(message)
        return record

    controlling = asyncio.create_task(control())
    records = [asyncio.create_task(watch())]
    while not controlling.done():
        records.append(asyncio.create_task(watch()))
        await calls.batch()  # some time passes
    await controlling
    assert [len(each) for each in made] == [40] * 11
    for record in await asyncio.gather(*records):
        record.check_atomic(made)
        assert {each.state for each in record.documents.values()} == {STOPPED}


# States of batch and dataset.


async def test_states_of_batch_and_dataset_follow(calls: Calls) -> None:
    async def states() -> tuple[str, str]:
        batch, dataset = await calls.batch(), await calls.dataset()
        assert batch.counts == dataset.counts
        assert batch.HasField("end_time") == (not dataset.open_batches)
        return (
            r.BatchState.Name(batch.state).removeprefix("BATCH_STATE_"),
            r.DatasetState.Name(dataset.state).removeprefix("DATASET_STATE_"),
        )

    await calls.create("a", "b", "c")
    await calls.pause()
    assert await states() == ("PAUSED", "RUNNING")
    await calls.resume()
    assert await states() == ("PENDING", "PENDING")
    await calls.stop("a")
    assert await states() == ("RUNNING", "RUNNING")
    await calls.pause()
    assert await states() == ("PAUSED", "RUNNING")
    await calls.stop()
    assert await states() == ("STOPPED", "FAILED")
    await calls.retry("b")
    assert await states() == ("RUNNING", "RUNNING")
    await calls.report(stage("b", r.STAGE_COMPLETED))
    assert await states() == ("PARTIALLY_SUCCEEDED", "FAILED")
    await calls.retry()
    await calls.report(failure("a"), failure("c"))
    await calls.retry("b")
    await calls.stop("b")
    assert await states() == ("FAILED", "FAILED")
    await calls.retry()
    assert await states() == ("PENDING", "PENDING")
    await calls.report(*(stage(each, r.STAGE_COMPLETED) for each in "abc"))
    assert await states() == ("SUCCEEDED", "SUCCEEDED")
    await calls.retry("a")
    assert await states() == ("RUNNING", "RUNNING")


async def test_unsealed_batch_stays_open_when_all_documents_are_stopped(calls: Calls) -> None:
    await calls.create("a", more_documents_follow=True)
    assert (await calls.stop()).batch.state == r.BATCH_STATE_RUNNING
    assert (await calls.seal()).state == r.BATCH_STATE_STOPPED


async def test_watch_without_follow_ends_when_the_last_document_is_stopped(
    calls: Calls,
) -> None:
    await calls.create("a", "b")
    watching = asyncio.create_task(calls.watch())
    await calls.report(stage("a", r.STAGE_COMPLETED))
    await calls.stop()
    last = (await watching)[-1]
    assert last.batch == await calls.batch()
    assert last.batch.state == r.BATCH_STATE_PARTIALLY_SUCCEEDED


# Times and counters.


async def test_times_of_pause_stop_and_retry(calls: Calls, clock: Clock) -> None:
    await calls.create("a", "b")
    clock.advance(10)
    await calls.start("a")
    clock.advance(10)
    paused = await calls.pause()
    clock.advance(10)
    await calls.pause()
    for each in "ab":
        document = await calls.document(each)
        assert document.pause_time == moment(START_US + 20_000_000)
        assert document.update_time == document.pause_time
    assert paused.batch.update_time == moment(START_US + 20_000_000)
    stopped = await calls.stop()
    for each in "ab":
        document = await calls.document(each)
        assert document.stop_time == moment(START_US + 30_000_000)
        assert not document.HasField("pause_time")
        assert document.HasField("processing_start_time") == (each == "a")
    assert stopped.batch.end_time == moment(START_US + 30_000_000)
    clock.advance(10)
    retried = await calls.retry()
    assert not retried.batch.HasField("end_time")
    assert retried.batch.update_time == moment(START_US + 40_000_000)


async def test_times_and_counters_of_an_old_attempt_are_in_the_history_only(
    calls: Calls, clock: Clock
) -> None:
    await calls.create("a")
    clock.advance(5)
    await calls.start("a")
    await calls.report(counters("a", 3, 4))
    await calls.report(stage("a", r.STAGE_INDEXING))
    assert (await calls.stop()).batch.progress.completed_segments == 3
    ended = await calls.document("a")
    retried = await calls.retry("a")
    document = await calls.document("a")
    assert document == r.Document(
        dataset_id=calls.dataset_id,
        batch_id=BATCH,
        document_id="a",
        state=PENDING,
        stage=r.STAGE_WAITING,
        attempt=2,
        progress=r.Progress(),
        revision=ended.revision + 1,
        create_time=moment(START_US),
        update_time=moment(START_US + 5_000_000),
    )
    assert retried.batch.progress == r.Progress()
    [*_, stopped, again] = await calls.history("a")
    assert stopped.document == ended
    assert stopped.document.progress == r.Progress(completed_segments=3, total_segments=4)
    assert (again.previous_state, again.previous_stage) == (STOPPED, r.STAGE_INDEXING)


async def test_succeeded_document_is_retried_if_named(calls: Calls) -> None:
    await calls.create("a", "b")
    await calls.report(*(stage(each, r.STAGE_COMPLETED) for each in "ab"))
    assert (await calls.retry()).changed_documents == 0
    answer = await calls.retry("a")
    assert (answer.changed_documents, answer.batch.state) == (1, r.BATCH_STATE_RUNNING)
    document = await calls.document("a")
    assert (document.state, document.attempt) == (PENDING, 2)
    assert not document.HasField("complete_time")


# The REST paths.


@pytest.fixture
async def http(server: App) -> Any:
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=60) as http:
        yield http


async def test_both_rest_paths_show_the_controlled_states(
    calls: Calls, clock: Clock, http: httpx.AsyncClient
) -> None:
    start_s = START_US // 1_000_000

    async def dify() -> dict[str, Any]:
        path = f"/v1/datasets/{calls.dataset_id}/documents/{BATCH}/indexing-status"
        [document] = (await http.get(path)).json()["data"]
        return dict(document)

    async def cognee() -> str:
        path = "/api/v1/datasets/status"
        states = (await http.get(path, params={"dataset": calls.dataset_id})).json()
        assert list(states) == [calls.dataset_id]
        return str(states[calls.dataset_id]).removeprefix("DATASET_PROCESSING_")

    await calls.create("a")
    waiting = await dify()
    assert await cognee() == "INITIATED"
    clock.advance(1)
    await calls.start("a")
    await calls.report(stage("a", r.STAGE_INDEXING), counters("a", 2, 5))
    running = await dify()
    assert running["indexing_status"] == "indexing"
    clock.advance(1)
    await calls.pause()
    assert await dify() == running | {"indexing_status": "paused", "paused_at": start_s + 2}
    assert await cognee() == "STARTED"
    await calls.resume()
    assert await dify() == running
    clock.advance(1)
    await calls.stop()
    assert await dify() == running | {
        "indexing_status": "error",
        "error": "Stopped.",
        "stopped_at": start_s + 3,
    }
    assert await cognee() == "ERRORED"
    await calls.retry()
    assert await dify() == waiting
    assert waiting["indexing_status"] == "waiting"
    assert {value for key, value in waiting.items() if key not in ("id", "indexing_status")} == {
        None,
        0,
    }
    assert await cognee() == "INITIATED"


# Unknown ids.


@pytest.mark.parametrize("call", WHOLE)
async def test_unknown_ids_are_not_found(calls: Calls, call: str) -> None:
    control = _control(calls, call)
    await calls.create("a")
    unknown = "00000000-1111-4222-8333-444444444444"
    batch = {"dataset_id": calls.dataset_id, "batch_id": "no-batch"}
    for fields, reason, metadata in (
        ({"batch_id": "no-batch"}, "BATCH_NOT_FOUND", batch),
        ({"batch_id": "no-batch", "document_id": "a"}, "BATCH_NOT_FOUND", batch),
        (
            {"dataset_id": unknown},
            "BATCH_NOT_FOUND",
            {"dataset_id": unknown, "batch_id": BATCH},
        ),
        (
            {"document_id": "b"},
            "DOCUMENT_NOT_FOUND",
            {"dataset_id": calls.dataset_id, "batch_id": BATCH, "document_id": "b"},
        ),
    ):
        refusal = await refused(control(**fields))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, reason)
        assert refusal.metadata == metadata
    assert (await calls.batch()).revision == 3


async def test_dataset_id_may_be_written_in_upper_case(calls: Calls) -> None:
    await calls.create("a")
    answer = await calls.pause(dataset_id=calls.dataset_id.upper())
    assert answer.batch.dataset_id == calls.dataset_id
    assert answer.changed_documents == 1
