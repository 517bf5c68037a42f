"""ListDatasets, ListBatches and ListTransitions: order, filters, pages.

Together with `test_list_documents`, which tests page tokens character by character.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from stagecast.client import Stubs
from stagecast.model import tokens
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.clock import Clock
from tests.rpc.calls import BATCH, Calls, counters, failure, new, refusal_of, refused, stage
from tests.validator import WatchRecord

UNKNOWN = "00000000-1111-4222-8333-444444444444"
_MAX_BYTES = 4 * 1024 * 1024  # the default limit of gRPC clients


class Lists:
    """The three lists, page by page or whole."""

    def __init__(self, client: Stubs) -> None:
        self._status = client.status

    async def datasets(self, **fields: Any) -> ss.ListDatasetsResponse:
        """Return a page of datasets."""
        return await self._status.ListDatasets(ss.ListDatasetsRequest(**fields))

    async def batches(self, **fields: Any) -> ss.ListBatchesResponse:
        """Return a page of batches."""
        return await self._status.ListBatches(ss.ListBatchesRequest(**fields))

    async def transitions(self, **fields: Any) -> ss.ListTransitionsResponse:
        """Return a page of history."""
        return await self._status.ListTransitions(ss.ListTransitionsRequest(**fields))


async def pages_of(page: Callable[..., Awaitable[Any]], **fields: Any) -> list[Any]:
    """Return all pages."""
    pages = [await page(**fields)]
    while pages[-1].next_page_token:
        pages.append(await page(**fields, page_token=pages[-1].next_page_token))
    return pages


@pytest.fixture
def lists(client: Stubs) -> Lists:
    return Lists(client)


def _ids(*pages: ss.ListDatasetsResponse) -> list[str]:
    return [dataset.dataset_id for page in pages for dataset in page.datasets]


def _names(*pages: ss.ListBatchesResponse) -> list[str]:
    return [batch.batch_id for page in pages for batch in page.batches]


def _revisions(*pages: ss.ListTransitionsResponse) -> list[int]:
    return [transition.revision for page in pages for transition in page.transitions]


# Datasets.


async def _create_datasets(client: Stubs, count: int) -> list[str]:
    ids = [str(uuid.uuid4()) for _ in range(count)]
    await asyncio.gather(*(Calls(client, each).create("a") for each in ids))
    return sorted(ids)


async def test_datasets_come_in_the_order_of_their_ids(client: Stubs, lists: Lists) -> None:
    assert await lists.datasets() == ss.ListDatasetsResponse()
    ids = await _create_datasets(client, 9)
    page = await lists.datasets()
    assert _ids(page) == ids
    assert page.next_page_token == ""
    assert page.datasets[3] == await Calls(client, ids[3]).dataset()


async def test_requested_datasets_that_exist_are_listed_once_each(
    client: Stubs, lists: Lists
) -> None:
    ids = await _create_datasets(client, 5)
    requested = [ids[3], UNKNOWN, ids[1].upper(), ids[1], ids[3]]
    assert _ids(await lists.datasets(dataset_ids=requested)) == [ids[1], ids[3]]
    assert _ids(await lists.datasets(dataset_ids=[UNKNOWN])) == []
    assert _ids(*await pages_of(lists.datasets, dataset_ids=requested, page_size=1)) == [
        ids[1],
        ids[3],
    ]


async def test_pages_of_datasets_of_every_size_follow_each_other(
    client: Stubs, lists: Lists
) -> None:
    ids = await _create_datasets(client, 7)
    for size in (1, 2, 3, 6, 7, 8, 1_000):
        pages = await pages_of(lists.datasets, page_size=size)
        assert _ids(*pages) == ids
        assert len(pages) == -(-7 // size), "no page is empty"


async def test_default_page_of_datasets_is_the_first_100(client: Stubs, lists: Lists) -> None:
    ids = await _create_datasets(client, 130)
    for size in (0, 100):
        assert _ids(await lists.datasets(page_size=size)) == ids[:100]
    assert _ids(await lists.datasets(page_size=1_000)) == ids


async def test_request_may_name_the_maximum_of_datasets(client: Stubs, lists: Lists) -> None:
    ids = await _create_datasets(client, 3)
    others = [str(uuid.UUID(int=number)) for number in range(9_997)]
    assert _ids(await lists.datasets(dataset_ids=[*others, *ids])) == ids
    await _check_refused(lists.datasets(dataset_ids=[*others, *ids, UNKNOWN]), "dataset_ids")


async def test_datasets_deleted_between_pages_do_not_affect_others(
    client: Stubs, lists: Lists
) -> None:
    ids = await _create_datasets(client, 8)
    first = await lists.datasets(page_size=4)
    for deleted in (ids[1], ids[3], ids[5]):  # also the last one of the first page
        await Calls(client, deleted).delete_dataset()
    rest = await lists.datasets(page_size=4, page_token=first.next_page_token)
    assert _ids(first, rest) == [*ids[:4], ids[4], ids[6], ids[7]]


# Batches.


async def _create_every_state(calls: Calls) -> None:
    """Create a batch in each state, named after it, in the order of `BatchState`."""
    done = stage("a", r.STAGE_COMPLETED)
    for name in ("pending", "running", "paused", "succeeded", "partially", "failed", "stopped"):
        await calls.create("a", "b", batch_id=name)
    await calls.report(stage("a", r.STAGE_PARSING), batch_id="running")
    await calls.pause(batch_id="paused")
    await calls.report(done, stage("b", r.STAGE_COMPLETED), batch_id="succeeded")
    await calls.report(done, failure("b"), batch_id="partially")
    await calls.report(failure("a"), failure("b"), batch_id="failed")
    await calls.stop(batch_id="stopped")


EVERY_STATE = ["stopped", "failed", "partially", "succeeded", "paused", "running", "pending"]
FILTERS = {
    (): EVERY_STATE,
    (r.BATCH_STATE_PENDING,): ["pending"],
    (r.BATCH_STATE_RUNNING,): ["running"],
    (r.BATCH_STATE_PAUSED,): ["paused"],
    (r.BATCH_STATE_SUCCEEDED,): ["succeeded"],
    (r.BATCH_STATE_PARTIALLY_SUCCEEDED,): ["partially"],
    (r.BATCH_STATE_FAILED,): ["failed"],
    (r.BATCH_STATE_STOPPED,): ["stopped"],
    (r.BATCH_STATE_PENDING, r.BATCH_STATE_FAILED, r.BATCH_STATE_PAUSED): [
        "failed",
        "paused",
        "pending",
    ],
    (r.BATCH_STATE_RUNNING, r.BATCH_STATE_RUNNING): ["running"],
    tuple(range(1, 8)): EVERY_STATE,
}


async def test_batches_are_listed_newest_first_by_their_states(
    calls: Calls, lists: Lists, client: Stubs
) -> None:
    await _create_every_state(calls)
    other = Calls(client, str(uuid.uuid4()))
    await other.create("a", batch_id="pending")
    await other.create("a", batch_id="doomed")
    await other.delete_batch(batch_id="doomed")
    for states, names in FILTERS.items():
        for size in (0, 1, 2):
            requested = {"states": states, "page_size": size}
            of_one = await pages_of(lists.batches, dataset_id=calls.dataset_id.upper(), **requested)
            assert _names(*of_one) == names
            newest = ["pending"] if "pending" in names else []
            assert _names(*await pages_of(lists.batches, **requested)) == newest + names
    [batch] = (await lists.batches(states=[r.BATCH_STATE_PAUSED])).batches
    assert batch == await calls.batch(batch_id="paused")


async def test_pages_of_batches_of_every_size_follow_each_other(calls: Calls, lists: Lists) -> None:
    names = [f"b-{number}" for number in range(7)]
    for name in names:
        await calls.create(batch_id=name)
    for size in (1, 2, 3, 6, 7, 8, 1_000):
        pages = await pages_of(lists.batches, page_size=size)
        assert _names(*pages) == names[::-1]
        assert len(pages) == -(-7 // size), "no page is empty"


async def test_batches_changed_between_pages_do_not_affect_others(
    calls: Calls, lists: Lists
) -> None:
    for number in range(8):
        await calls.create("a", batch_id=f"b-{number}")
    first = await lists.batches(page_size=3)
    await calls.create("a", batch_id="late")
    await calls.report(stage("a", r.STAGE_COMPLETED), batch_id="b-4")
    await calls.report(stage("a", r.STAGE_PARSING), batch_id="b-6")
    await calls.delete_batch(batch_id="b-5")  # the last one of the first page
    await calls.delete_batch(batch_id="b-2")
    second = await lists.batches(page_size=3, page_token=first.next_page_token)
    third = await lists.batches(page_size=3, page_token=second.next_page_token)
    assert _names(first) == ["b-7", "b-6", "b-5"]
    assert _names(second, third) == ["b-4", "b-3", "b-1", "b-0"]
    assert not third.next_page_token


async def test_batches_that_end_between_pages_leave_the_filter(calls: Calls, lists: Lists) -> None:
    for number in range(6):
        await calls.create("a", batch_id=f"b-{number}")
    requested = {"states": [r.BATCH_STATE_PENDING], "page_size": 2}
    first = await lists.batches(**requested)
    for name in ("b-3", "b-5"):
        await calls.stop(batch_id=name)
    rest = await pages_of(lists.batches, **requested | {"page_size": 100})
    second = await lists.batches(**requested, page_token=first.next_page_token)
    assert _names(first) == ["b-5", "b-4"]
    assert _names(second) == ["b-2", "b-1"]
    assert _names(*rest) == ["b-4", "b-2", "b-1", "b-0"]


async def test_batches_of_an_unknown_dataset_are_not_found(calls: Calls, lists: Lists) -> None:
    await calls.create()
    refusal = await refused(lists.batches(dataset_id=UNKNOWN))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND")
    assert refusal.metadata == {"dataset_id": UNKNOWN}
    await calls.delete_batch()
    assert await lists.batches(dataset_id=calls.dataset_id) == ss.ListBatchesResponse()


async def test_pages_of_batches_with_many_labels_fit_a_message(calls: Calls, lists: Lists) -> None:
    labels = {f"{number:02}" + "🗎" * 62: "🗎" * 256 for number in range(32)}
    names = [f"{number:03}" + "b" * 125 for number in range(120)]
    for name in names:
        await calls.create(batch_id=name, labels=labels)
    pages = await pages_of(lists.batches, page_size=1_000)
    assert _names(*pages) == names[::-1]
    assert len(pages) > 1
    assert all(page.ByteSize() < _MAX_BYTES for page in pages)
    assert dict(pages[0].batches[0].labels) == labels


# Transitions.


async def _continue_history(calls: Calls, clock: Clock) -> None:
    """Make random calls of all kinds, some of them refused, until the batch ends."""
    rng = random.Random(7)
    for step in range(200):
        clock.advance(rng.random())
        answers = await asyncio.gather(_do_anything(calls, rng, step), return_exceptions=True)
        answer: Any = answers[0]
        if isinstance(answer, BaseException):
            assert isinstance(answer, grpc.aio.AioRpcError)
            assert refusal_of(answer).reason == "ILLEGAL_TRANSITION"
    await calls.seal()
    await calls.stop()


def _do_anything(calls: Calls, rng: random.Random, step: int) -> Awaitable[Any]:
    name = f"doc-{rng.randrange(6)}"
    reached = rng.choice(list(r.Stage.values())[1:])
    actions: list[Callable[[], Awaitable[Any]]] = [
        lambda: calls.start(name, f"w{rng.randrange(3)}"),
        lambda: calls.report(stage(name, reached), counters(name, step, 200)),
        lambda: calls.report(failure(name)),
        lambda: calls.pause(rng.choice([name, ""])),
        lambda: calls.resume(rng.choice([name, ""])),
        lambda: calls.stop(name),
        lambda: calls.retry(rng.choice([name, ""])),
        lambda: calls.add(f"late-{step}"),
    ]
    return rng.choice(actions)()


async def test_history_is_what_a_watch_from_the_first_revision_shows(
    calls: Calls, clock: Clock, lists: Lists
) -> None:
    await calls.create(batch_id="unused")
    await calls.create(more_documents_follow=True)
    record = WatchRecord()
    request = ss.WatchBatchRequest(dataset_id=calls.dataset_id, batch_id=BATCH)
    messages = aiter(calls.client.status.WatchBatch(request, timeout=60))
    record.receive(await anext(messages))
    assert record.revision == 1
    await calls.add(*(f"doc-{number}" for number in range(6)))
    await _continue_history(calls, clock)
    async for message in messages:
        record.receive(message)
    names = {"dataset_id": calls.dataset_id, "batch_id": BATCH}
    pages = await pages_of(lists.transitions, **names, page_size=7)
    listed = [transition for page in pages for transition in page.transitions]
    assert _revisions(*pages) == [*range(1, record.revision + 1)]
    assert (listed[0].kind, listed[0].HasField("document")) == (r.TRANSITION_KIND_CREATED, False)
    assert {each.revision: each for each in listed[1:]} == record.transitions
    kinds = {each.kind for each in listed}
    assert kinds >= set(r.TransitionKind.values()) - {
        r.TRANSITION_KIND_UNSPECIFIED,
        r.TRANSITION_KIND_STALLED,
        r.TRANSITION_KIND_RECOVERED,
    }
    for document_id, document in record.documents.items():
        mine = [each for each in listed if each.document.document_id == document_id]
        requested = names | {"document_id": document_id}
        of_one = await pages_of(lists.transitions, **requested, page_size=3)
        assert [each for page in of_one for each in page.transitions] == mine
        assert mine[-1].document == await calls.document(document_id)
        assert mine[-1].revision == document.revision


async def test_pages_of_history_of_every_size_follow_each_other(calls: Calls, lists: Lists) -> None:
    await calls.create("a", "b", "c", "d", "e")
    names = {"dataset_id": calls.dataset_id, "batch_id": BATCH}
    for size in (1, 2, 3, 6, 7, 8, 1_000):
        pages = await pages_of(lists.transitions, **names, page_size=size)
        assert _revisions(*pages) == [*range(1, 8)]
        assert len(pages) == -(-7 // size), "no page is empty"


async def test_history_growing_between_pages_is_listed_to_its_end(
    calls: Calls, lists: Lists
) -> None:
    await calls.create("a", "b")
    names = {"dataset_id": calls.dataset_id, "batch_id": BATCH}
    first = await lists.transitions(**names, page_size=3)
    await calls.start("a")
    await calls.start("a", "w2")
    rest = await lists.transitions(**names, page_size=3, page_token=first.next_page_token)
    assert _revisions(first, rest) == [1, 2, 3, 4, 5, 6]
    assert [each.document.attempt for each in rest.transitions] == [0, 1, 2]


async def test_history_of_unknown_ids_is_not_found(calls: Calls, lists: Lists) -> None:
    await calls.create("a")
    names = {"dataset_id": calls.dataset_id, "batch_id": BATCH}
    for change, reason in (
        ({"dataset_id": UNKNOWN}, "BATCH_NOT_FOUND"),
        ({"batch_id": "b2"}, "BATCH_NOT_FOUND"),
        ({"document_id": "b"}, "DOCUMENT_NOT_FOUND"),
    ):
        refusal = await refused(lists.transitions(**names | change))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, reason)
        assert refusal.metadata == names | change


async def test_pages_of_very_large_transitions_fit_a_message(calls: Calls, lists: Lists) -> None:
    labels = {f"{number:02}" + "🗎" * 62: "🗎" * 256 for number in range(32)}
    await calls.create(new("a", labels=labels))
    for number in range(120):
        await calls.start("a", f"worker-{number}")
    requested = {"dataset_id": calls.dataset_id, "batch_id": BATCH, "page_size": 1_000}
    pages = await pages_of(lists.transitions, **requested)
    assert _revisions(*pages) == [*range(1, 124)]
    assert len(pages) > 1
    assert all(page.ByteSize() < _MAX_BYTES for page in pages)


# Page tokens.


ListRequest = tuple[Callable[..., Awaitable[Any]], dict[str, Any], list[dict[str, Any]]]


async def _requests(calls: Calls, lists: Lists) -> dict[str, ListRequest]:
    """Return each list with a request of two pages, and changes that make it another request."""
    await _create_datasets(calls.client, 2)
    await calls.create("a", "b")
    await calls.create("a", "b", batch_id="b2")
    names = {"dataset_id": calls.dataset_id, "batch_id": BATCH}
    return {
        "datasets": (lists.datasets, {}, [{"dataset_ids": [calls.dataset_id]}]),
        "batches": (
            lists.batches,
            {"dataset_id": calls.dataset_id},
            [{"dataset_id": ""}, {"states": [r.BATCH_STATE_PENDING]}],
        ),
        "transitions": (
            lists.transitions,
            names,
            [{"batch_id": "b2"}, {"document_id": "a"}],
        ),
    }


async def test_malformed_or_foreign_page_token_is_invalid(
    calls: Calls, lists: Lists, subtests: pytest.Subtests
) -> None:
    requested = await _requests(calls, lists)
    tokens_by_list = {
        name: (await page(**fields, page_size=1)).next_page_token
        for name, (page, fields, _) in requested.items()
    }
    for name, (page, fields, others) in requested.items():
        token = tokens_by_list[name]
        foreign = [other for other in tokens_by_list.values() if other != token]
        for bad in ("nonsense", "§", "A", " ", token[:-1], token[:-4], token + "A", *foreign):
            with subtests.test(name, token=bad):
                await _check_refused(page(**fields, page_token=bad), "page_token")
        for other in others:
            with subtests.test(name, **other):
                await _check_refused(page(**fields | other, page_token=token), "page_token")
        for size in (-1, 1_001, 2**31 - 1):
            with subtests.test(name, size=size):
                await _check_refused(page(**fields, page_size=size), "page_size")


FORGED = [b"", b"\xff\xfe", b'["5",""]', bytes(16), b"[" * 100_000]


async def test_forged_page_token_is_invalid(
    calls: Calls, lists: Lists, subtests: pytest.Subtests
) -> None:
    """The server makes no such tokens."""
    for name, (page, fields, _) in (await _requests(calls, lists)).items():
        for content in FORGED:
            with subtests.test(name, content=content[:40]):
                forged = tokens._pack(content)
                await _check_refused(page(**fields, page_token=forged), "page_token")


async def test_page_token_of_a_recreated_batch_is_invalid(calls: Calls, lists: Lists) -> None:
    await calls.create("a", "b")
    names = {"dataset_id": calls.dataset_id, "batch_id": BATCH}
    token = (await lists.transitions(**names, page_size=1)).next_page_token
    await calls.delete_batch()
    await calls.create("a", "b")
    await _check_refused(lists.transitions(**names, page_token=token), "page_token")


async def test_page_token_is_valid_with_an_equivalent_request(calls: Calls, lists: Lists) -> None:
    await _create_every_state(calls)
    states = [r.BATCH_STATE_PENDING, r.BATCH_STATE_FAILED]
    first = await lists.batches(dataset_id=calls.dataset_id, states=states, page_size=1)
    rest = await lists.batches(
        dataset_id=calls.dataset_id.upper(),
        states=[*reversed(states), *states],
        page_token=first.next_page_token,
    )
    assert _names(first, rest) == ["failed", "pending"]


async def _check_refused(call: Awaitable[Any], field: str) -> None:
    refusal = await refused(call)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, refusal
    assert refusal.reason == "FIELD_INVALID"
    assert list(refusal.fields) == [field]
