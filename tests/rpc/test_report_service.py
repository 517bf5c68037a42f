"""Submission: CreateBatch, AddDocuments, SealBatch."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from stagecast.config import Config
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.clock import START_US, Clock
from tests.rpc.calls import BATCH, Calls, contents, moment, new, refused, stage

OTHER_CONTENT: dict[str, dict[str, Any]] = {
    "other_document": {"documents": [new("a"), new("x")]},
    "fewer_documents": {"documents": [new("a")]},
    "more_documents": {"documents": [new("a"), new("b"), new("c")]},
    "other_order": {"documents": [new("b"), new("a")]},
    "id_left_out": {"documents": [new("a"), new()]},
    "other_display_name": {"documents": [new("a"), new("b", display_name="B")]},
    "other_document_labels": {"documents": [new("a"), new("b", labels={"k": "v"})]},
    "other_labels": {"labels": {"k": "v"}},
    "not_sealed": {"more_documents_follow": True},
    "other_stall_after": {"stall_after": Duration(seconds=301)},
    "other_fail_after": {"fail_after": Duration(seconds=1)},
    "other_start_after": {"start_after": Duration(seconds=1)},
    "other_seal_after": {"seal_after": Duration(seconds=1)},
}


async def test_response_has_all_fields_of_the_created_batch(
    calls: Calls, clock: Clock, dataset_id: str
) -> None:
    response = await calls.create(
        new("s3://docs/a.pdf", display_name="A", labels={"lang": "de"}),
        "b",
        labels={"tenant": "t1"},
        stall_after=Duration(seconds=7, nanos=500_000_000),
        fail_after=Duration(seconds=11),
        start_after=Duration(seconds=13),
        seal_after=Duration(seconds=17),
    )
    assert list(response.document_ids) == ["s3://docs/a.pdf", "b"]
    assert response.batch == r.Batch(
        dataset_id=dataset_id,
        batch_id=BATCH,
        labels={"tenant": "t1"},
        state=r.BATCH_STATE_PENDING,
        sealed=True,
        counts=r.DocumentCounts(total=2, pending=2),
        progress=r.Progress(),
        revision=4,
        stall_after=Duration(seconds=7, nanos=500_000_000),
        fail_after=Duration(seconds=11),
        start_after=Duration(seconds=13),
        seal_after=Duration(seconds=17),
        create_time=moment(clock.now_us),
        update_time=moment(clock.now_us),
    )
    assert response.batch == await calls.batch()
    assert await calls.document("s3://docs/a.pdf") == r.Document(
        dataset_id=dataset_id,
        batch_id=BATCH,
        document_id="s3://docs/a.pdf",
        display_name="A",
        labels={"lang": "de"},
        state=r.DOCUMENT_STATE_PENDING,
        stage=r.STAGE_WAITING,
        attempt=1,
        progress=r.Progress(),
        revision=2,
        create_time=moment(clock.now_us),
        update_time=moment(clock.now_us),
    )


async def test_omitted_ids_are_generated(calls: Calls, clock: Clock) -> None:
    response = await calls.create("named", "", "", batch_id="")
    assert response.document_ids[0] == "named"
    made = response.document_ids[1:]
    assert [str(uuid.UUID(each)) for each in made] == list(made)
    assert len(set(made)) == 2
    # 20 digits: the time in UTC, then six random ones.
    batch_id = response.batch.batch_id
    assert len(batch_id) == 20
    assert batch_id.isdecimal()
    assert batch_id[:14] == "20260921141320", "the time of the fake clock"
    assert clock.now_us == START_US
    assert (await calls.batch(batch_id=batch_id)).revision == 5


@pytest.mark.slow
async def test_ids_of_1000_batches_of_one_moment_are_unique(calls: Calls) -> None:
    made = await asyncio.gather(*(calls.create(batch_id="") for _ in range(1_000)))
    assert len({response.batch.batch_id for response in made}) == 1_000


async def test_default_thresholds_are_5_minutes_for_stall_and_never_for_fail(calls: Calls) -> None:
    batch = (await calls.create("a")).batch
    assert batch.stall_after == Duration(seconds=300)
    assert batch.HasField("fail_after")
    assert batch.fail_after == Duration()


async def test_zero_thresholds_mean_never(calls: Calls) -> None:
    batch = (await calls.create("a", stall_after=Duration(), fail_after=Duration())).batch
    assert batch.stall_after == Duration()
    assert batch.fail_after == Duration()


async def test_batch_is_sealed_unless_more_documents_follow(calls: Calls) -> None:
    assert (await calls.create("a", batch_id="whole")).batch.sealed
    response = await calls.create("a", batch_id="part", more_documents_follow=True)
    assert not response.batch.sealed
    assert response.batch.revision == 2, "there is no SEALED"


async def test_empty_sealed_batch_succeeds_at_once(calls: Calls, clock: Clock) -> None:
    batch = (await calls.create()).batch
    assert batch.state == r.BATCH_STATE_SUCCEEDED
    assert batch.end_time == moment(clock.now_us)
    assert batch.revision == 2
    assert (await calls.dataset()).state == r.DATASET_STATE_SUCCEEDED


async def test_empty_unsealed_batch_is_pending(calls: Calls) -> None:
    batch = (await calls.create(more_documents_follow=True)).batch
    assert batch.state == r.BATCH_STATE_PENDING
    assert not batch.HasField("end_time")
    sealed = await calls.seal()
    assert sealed.state == r.BATCH_STATE_SUCCEEDED


async def test_ten_thousand_documents_fit_in_one_call(calls: Calls) -> None:
    response = await calls.create(*[""] * 10_000)
    assert len(set(response.document_ids)) == 10_000
    assert response.batch.counts == r.DocumentCounts(total=10_000, pending=10_000)


async def test_repeated_create_returns_the_generated_ids_again(
    calls: Calls, config: Config
) -> None:
    first = await calls.create("a", "", new("c", labels={"x": "1", "y": "2"}))
    before = contents(config.db)
    again = await calls.create("a", "", new("c", labels={"y": "2", "x": "1"}))
    assert again == first
    assert contents(config.db) == before


async def test_repeated_create_may_state_the_defaults(calls: Calls) -> None:
    first = await calls.create("a")
    defaults = {"stall_after": Duration(seconds=300), "fail_after": Duration()}
    again = await calls.create("a", **defaults, start_after=Duration(), seal_after=Duration())
    assert again == first


async def test_repeated_create_returns_the_current_batch(calls: Calls) -> None:
    first = await calls.create("a", "", more_documents_follow=True)
    await calls.add("later")
    await calls.seal()
    await calls.report(stage("a", r.STAGE_PARSING))
    again = await calls.create("a", "", more_documents_follow=True)
    assert again.document_ids == first.document_ids, "those of this request"
    assert again.batch == await calls.batch()
    assert again.batch.counts.total == 3
    assert again.batch.sealed


@pytest.mark.parametrize("change", OTHER_CONTENT.values(), ids=OTHER_CONTENT.keys())
async def test_batch_id_with_different_content_is_refused(
    calls: Calls, config: Config, change: dict[str, Any]
) -> None:
    await calls.create("a", "b")
    before = contents(config.db)
    refusal = await refused(calls.create("a", "b", **change))
    assert refusal.code is grpc.StatusCode.ALREADY_EXISTS
    assert refusal.reason == "BATCH_EXISTS"
    assert refusal.metadata == {"dataset_id": calls.dataset_id, "batch_id": BATCH}
    assert contents(config.db) == before


# The name of the dataset.


async def test_last_name_of_a_dataset_is_shown(calls: Calls) -> None:
    await calls.create("a")
    assert (await calls.dataset()).display_name == ""
    for batch_id, name, expected in (
        ("b2", "Händbuch", "Händbuch"),
        ("b3", "", "Händbuch"),
        ("b4", "Handbook", "Handbook"),
    ):
        await calls.create("a", batch_id=batch_id, dataset_name=name)
        assert (await calls.dataset()).display_name == expected
        request = ss.ListDatasetsRequest(dataset_ids=[calls.dataset_id])
        [listed] = (await calls.client.status.ListDatasets(request)).datasets
        assert listed == await calls.dataset()
    await calls.delete_dataset()
    await calls.create("a")
    assert (await calls.dataset()).display_name == "", "another dataset with the same id"


@pytest.mark.parametrize("batch_id", [BATCH, ""], ids=["batch_id", "request_id"])
async def test_name_of_the_dataset_is_no_part_of_the_content(calls: Calls, batch_id: str) -> None:
    ids = {"batch_id": batch_id, "request_id": "r1"}
    first = await calls.create("a", **ids, dataset_name="One")
    before = await calls.dataset()
    assert await calls.create("a", **ids) == first
    assert await calls.dataset() == before
    assert await calls.create("a", **ids, dataset_name="Two") == first
    before.display_name = "Two"
    assert await calls.dataset() == before


async def test_refused_batch_does_not_name_its_dataset(calls: Calls, config: Config) -> None:
    await calls.create("a", dataset_name="One")
    before = contents(config.db)
    refusal = await refused(calls.create("b", dataset_name="Two"))
    assert refusal.reason == "BATCH_EXISTS"
    assert contents(config.db) == before


async def test_same_batch_id_in_another_dataset_is_another_batch(calls: Calls) -> None:
    await calls.create("a")
    other = Calls(calls.client, str(uuid.uuid4()))
    assert (await other.create("x")).batch.dataset_id == other.dataset_id


async def test_same_document_id_in_a_later_batch_is_another_document(calls: Calls) -> None:
    await calls.create("a", batch_id="first")
    await calls.report(stage("a", r.STAGE_COMPLETED), batch_id="first")
    await calls.create("a", batch_id="second")
    assert (await calls.document("a", batch_id="second")).state == r.DOCUMENT_STATE_PENDING


async def test_request_id_makes_create_without_batch_id_idempotent(
    calls: Calls, config: Config
) -> None:
    first = await calls.create("a", "", batch_id="", request_id="r 1")
    before = contents(config.db)
    assert await calls.create("a", "", batch_id="", request_id="r 1") == first
    assert contents(config.db) == before
    other = await calls.create("a", "", batch_id="", request_id="r 2")
    assert other.batch.batch_id != first.batch.batch_id


async def test_request_id_with_different_content_is_refused(calls: Calls) -> None:
    first = await calls.create("a", batch_id="", request_id="r1")
    refusal = await refused(calls.create("b", batch_id="", request_id="r1"))
    assert refusal.code is grpc.StatusCode.ALREADY_EXISTS
    assert refusal.reason == "BATCH_EXISTS"
    assert refusal.metadata["batch_id"] == first.batch.batch_id


async def test_request_id_is_scoped_to_its_dataset(calls: Calls) -> None:
    await calls.create("a", batch_id="", request_id="r1")
    other = Calls(calls.client, str(uuid.uuid4()))
    response = await other.create("b", batch_id="", request_id="r1")
    assert list(response.document_ids) == ["b"]


async def test_request_id_is_ignored_with_a_batch_id(calls: Calls) -> None:
    await calls.create("a", batch_id="one", request_id="r1")
    two = await calls.create("b", batch_id="two", request_id="r1")
    assert two.batch.batch_id == "two"
    made = await calls.create("c", batch_id="", request_id="r1")
    assert made.batch.batch_id not in ("one", "two")
    again = await calls.create("a", batch_id="one", request_id="r9")
    assert again.batch.batch_id == "one"


@pytest.mark.parametrize("batch_id", [BATCH, ""], ids=["batch_id", "request_id"])
async def test_concurrent_identical_creates_give_one_batch(calls: Calls, batch_id: str) -> None:
    responses = await asyncio.gather(
        *(calls.create("a", "", batch_id=batch_id, request_id="r1") for _ in range(32))
    )
    assert all(response == responses[0] for response in responses)
    assert (await calls.dataset()).batches == 1
    assert (await calls.dataset()).counts.total == 2


async def test_concurrent_different_creates_give_one_batch_and_refusals(
    calls: Calls,
) -> None:
    async def create(number: int) -> str:
        try:
            return (await calls.create(f"doc-{number}")).document_ids[0]
        except grpc.aio.AioRpcError as error:
            return error.code().name

    actual = await asyncio.gather(*(create(number) for number in range(16)))
    [winner] = [answer for answer in actual if answer != "ALREADY_EXISTS"]
    page = await calls.page()
    assert [document.document_id for document in page.documents] == [winner]


async def test_added_documents_come_after_existing_ones(calls: Calls) -> None:
    await calls.create("z", more_documents_follow=True)
    response = await calls.add("m", "", "a")
    assert response.document_ids[0] == "m"
    assert response.document_ids[2] == "a"
    assert str(uuid.UUID(response.document_ids[1])) == response.document_ids[1]
    assert response.batch == await calls.batch()
    assert not response.batch.sealed
    page = await calls.page()
    ids = [document.document_id for document in page.documents]
    assert ids == ["z", *response.document_ids]
    assert [document.revision for document in page.documents] == [2, 3, 4, 5]


async def test_existing_documents_are_skipped(calls: Calls, config: Config) -> None:
    await calls.create("a", more_documents_follow=True)
    await calls.add(new("b", display_name="B", labels={"k": "v"}))
    before = contents(config.db)
    response = await calls.add("a", new("b", display_name="B", labels={"k": "v"}))
    assert list(response.document_ids) == ["a", "b"]
    assert contents(config.db) == before
    response = await calls.add("c", "a")
    assert list(response.document_ids) == ["c", "a"]
    assert response.batch.counts.total == 3


async def test_repeated_add_is_accepted_after_sealing(calls: Calls) -> None:
    await calls.create(more_documents_follow=True)
    await calls.add("a", "b")
    sealed = await calls.seal()
    response = await calls.add("a", "b")
    assert list(response.document_ids) == ["a", "b"]
    assert response.batch == sealed


async def test_documents_without_id_are_new_each_time(calls: Calls) -> None:
    await calls.create(more_documents_follow=True)
    first, second = await calls.add(""), await calls.add("")
    assert first.document_ids != second.document_ids
    assert second.batch.counts.total == 2


async def test_adding_nothing_changes_nothing(calls: Calls, config: Config) -> None:
    await calls.create("a")
    before = contents(config.db)
    response = await calls.add()
    assert response.batch == await calls.batch()
    assert contents(config.db) == before


@pytest.mark.parametrize(
    "other", [new("a"), new("a", display_name="A", labels={"k": "x"}), new("a", display_name="B")]
)
async def test_document_id_with_different_content_refuses_the_whole_call(
    calls: Calls, config: Config, other: Any
) -> None:
    await calls.create(new("a", display_name="A", labels={"k": "v"}), more_documents_follow=True)
    before = contents(config.db)
    refusal = await refused(calls.add("fresh", other))
    assert refusal.code is grpc.StatusCode.ALREADY_EXISTS
    assert refusal.reason == "DOCUMENT_EXISTS"
    assert refusal.metadata == {
        "dataset_id": calls.dataset_id,
        "batch_id": BATCH,
        "document_id": "a",
    }
    assert contents(config.db) == before


@pytest.mark.parametrize("fresh", ["b", ""], ids=["named", "unnamed"])
async def test_sealed_batch_refuses_new_documents(calls: Calls, config: Config, fresh: str) -> None:
    await calls.create("a")
    before = contents(config.db)
    refusal = await refused(calls.add("a", fresh))
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.reason == "BATCH_SEALED"
    assert refusal.metadata == {"dataset_id": calls.dataset_id, "batch_id": BATCH}
    assert contents(config.db) == before


async def test_concurrent_adds_lose_no_document_and_leave_no_gap(calls: Calls) -> None:
    await calls.create(more_documents_follow=True)
    token = await calls.token()
    await asyncio.gather(*(calls.add(f"{number}/a", f"{number}/b") for number in range(50)))
    added = await calls.since(token)
    assert [transition.revision for transition in added] == list(range(2, 102))
    ids = [transition.document.document_id for transition in added]
    assert len(set(ids)) == 100
    pairs = [ids[first : first + 2] for first in range(0, 100, 2)]
    assert all(a[:-2] == b[:-2] for a, b in pairs), "calls do not mix"


async def test_sealing_again_changes_nothing(calls: Calls, clock: Clock, config: Config) -> None:
    await calls.create("a", more_documents_follow=True)
    sealed = await calls.seal()
    assert sealed.sealed
    assert sealed.revision == 3
    before = contents(config.db)
    clock.advance(60)
    assert await calls.seal() == sealed
    assert contents(config.db) == before


async def test_sealing_after_the_last_document_ended_ends_the_batch(
    calls: Calls, clock: Clock
) -> None:
    await calls.create("a", more_documents_follow=True)
    await calls.report(stage("a", r.STAGE_COMPLETED))
    assert (await calls.batch()).state == r.BATCH_STATE_RUNNING
    clock.advance(5)
    sealed = await calls.seal()
    assert sealed.state == r.BATCH_STATE_SUCCEEDED
    assert sealed.end_time == moment(clock.now_us)
