"""ListDocuments: order, filters, pages, and the resume token for a watch."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.grpc_calls import read
from tests.rpc.calls import BATCH, Calls, counters, failure, new, refused, stage

_MAX_BYTES = 4 * 1024 * 1024  # the default limit of gRPC clients


def _ids(*pages: ss.ListDocumentsResponse) -> list[str]:
    return [document.document_id for page in pages for document in page.documents]


async def test_documents_come_in_the_order_of_registration(calls: Calls) -> None:
    ids = ["z", "10", "9", "A", "a", "é", "文書", "/b"]
    await calls.create(*ids, more_documents_follow=True)
    await calls.add("0", "Z")
    await calls.report(stage("9", r.STAGE_INDEXING))
    page = await calls.page()
    assert _ids(page) == [*ids, "0", "Z"]
    assert page.next_page_token == ""
    assert page.documents[2] == await calls.document("9")


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8, 1_000])
async def test_pages_follow_each_other_without_gap_or_repeat(calls: Calls, size: int) -> None:
    ids = [f"doc-{number}" for number in range(7)]
    await calls.create(*ids)
    pages = await calls.pages(page_size=size)
    assert _ids(*pages) == ids
    assert [len(page.documents) for page in pages[:-1]] == [size] * (len(pages) - 1)
    assert len(pages) == -(-7 // size), "no page is empty"


@pytest.mark.parametrize(
    ("requested", "first"),
    [({}, 100), ({"page_size": 0}, 100), ({"page_size": 1_000}, 1_000), ({"page_size": 1}, 1)],
    ids=["omitted", "zero", "max", "min"],
)
async def test_default_page_is_the_first_100(
    calls: Calls, requested: dict[str, int], first: int
) -> None:
    await calls.create(*[""] * 1_100)
    page = await calls.page(**requested)
    assert len(page.documents) == first
    assert page.next_page_token


async def test_batch_without_documents_has_one_empty_page(calls: Calls) -> None:
    await calls.create(more_documents_follow=True)
    page = await calls.page()
    assert _ids(page) == []
    assert page.next_page_token == ""
    assert page.revision == 1
    assert page.resume_token


async def _create_many_kinds(calls: Calls) -> None:
    await calls.create("new", "parsing", "indexing", "failed", "done", "failed-late")
    await calls.report(
        stage("parsing", r.STAGE_PARSING),
        stage("indexing", r.STAGE_INDEXING),
        failure("failed"),
        stage("done", r.STAGE_COMPLETED),
        stage("failed-late", r.STAGE_INDEXING),
        failure("failed-late"),
    )


FILTERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "one_state": ({"states": [r.DOCUMENT_STATE_RUNNING]}, ["parsing", "indexing"]),
    "states": (
        {"states": [r.DOCUMENT_STATE_SUCCEEDED, r.DOCUMENT_STATE_PENDING]},
        ["new", "done"],
    ),
    "one_stage": ({"stages": [r.STAGE_INDEXING]}, ["indexing", "failed-late"]),
    "stages": (
        {"stages": [r.STAGE_WAITING, r.STAGE_COMPLETED]},
        ["new", "failed", "done"],
    ),
    "both": (
        {"states": [r.DOCUMENT_STATE_FAILED], "stages": [r.STAGE_INDEXING]},
        ["failed-late"],
    ),
    "same_state_twice": ({"states": [r.DOCUMENT_STATE_PENDING] * 2}, ["new"]),
    "no_match": ({"states": [r.DOCUMENT_STATE_PAUSED]}, []),
}


@pytest.mark.parametrize(("filters", "actual"), FILTERS.values(), ids=FILTERS.keys())
@pytest.mark.parametrize("size", [0, 1])
async def test_filters_return_matching_documents(
    calls: Calls, filters: dict[str, Any], actual: list[str], size: int
) -> None:
    await _create_many_kinds(calls)
    assert _ids(*await calls.pages(**filters, page_size=size)) == actual


async def test_every_page_has_revision_and_token_of_the_first(calls: Calls) -> None:
    ids = [f"doc-{number}" for number in range(6)]
    await calls.create(*ids)
    first = await calls.page(page_size=2)
    assert first.revision == (await calls.batch()).revision
    await calls.report(*(stage(each, r.STAGE_PARSING) for each in ids))
    second = await calls.page(page_size=2, page_token=first.next_page_token)
    third = await calls.page(page_size=2, page_token=second.next_page_token)
    assert _ids(first, second, third) == ids
    assert first.revision == second.revision == third.revision
    assert first.resume_token == second.resume_token == third.resume_token
    assert second.documents[0].stage == r.STAGE_PARSING, "each page is read on its request"


async def test_watch_from_a_page_sends_exactly_the_later_transitions(calls: Calls) -> None:
    ids = [f"doc-{number}" for number in range(6)]
    await calls.create(*ids, more_documents_follow=True)
    first = await calls.page(page_size=4)
    await calls.report(stage("doc-0", r.STAGE_PARSING), stage("doc-5", r.STAGE_PARSING))
    await calls.report(counters("doc-1", 3, 4))
    await calls.add("late")
    second = await calls.page(page_size=4, page_token=first.next_page_token)
    assert _ids(first, second) == [*ids, "late"]
    await calls.report(*(stage(each, r.STAGE_COMPLETED) for each in [*ids, "late"]))
    await calls.seal()

    messages = await calls.watch(resume_token=second.resume_token)
    transitions = [transition for message in messages for transition in message.transitions]
    last = (await calls.batch()).revision
    assert [each.revision for each in transitions] == [*range(first.revision + 1, last + 1)]
    assert not any(message.HasField("snapshot") for message in messages)
    documents = {document.document_id: document for document in first.documents}
    for transition in transitions:
        if transition.HasField("document"):
            documents[transition.document.document_id] = transition.document
    assert documents == {each.document_id: each for each in (await calls.page()).documents}


async def test_watch_from_a_page_sends_counters_changed_since(calls: Calls) -> None:
    await calls.create("a", "b")
    await calls.report(counters("a", 1, 9))
    page = await calls.page()
    await calls.report(counters("b", 2, 9))
    request = ss.WatchBatchRequest(
        dataset_id=calls.dataset_id, batch_id=BATCH, resume_token=page.resume_token
    )
    watch = calls.client.status.WatchBatch(request, timeout=60)
    message = await read(watch)
    watch.cancel()
    assert [progress.document_id for progress in message.progress] == ["b"]
    assert message.revision == page.revision


async def test_token_of_a_terminal_batch_ends_its_watch_at_once(calls: Calls) -> None:
    await calls.create("a")
    await calls.report(stage("a", r.STAGE_COMPLETED))
    page = await calls.page()
    [message] = await calls.watch(resume_token=page.resume_token)
    assert not message.transitions
    assert message.batch == await calls.batch()


TOKENS: dict[str, dict[str, Any]] = {
    "other_states": {"states": [r.DOCUMENT_STATE_PENDING]},
    "other_stages": {"stages": [r.STAGE_WAITING]},
    "other_batch": {"batch_id": "other"},
    "no_token": {"page_token": "nonsense"},
    "no_base64": {"page_token": "§§§"},
    "one_character": {"page_token": "A"},
    "very_long": {"page_token": "A" * 100_000},
    "padded": {"page_token": "===="},
    "blank": {"page_token": " "},
}


@pytest.mark.parametrize("change", TOKENS.values(), ids=TOKENS.keys())
async def test_malformed_or_foreign_page_token_is_invalid(
    calls: Calls, change: dict[str, Any]
) -> None:
    await calls.create("a", "b")
    await calls.create("a", "b", batch_id="other")
    page = await calls.page(page_size=1)
    await _check_refused(calls, {"page_token": page.next_page_token} | change)


async def test_page_token_with_a_changed_character_is_invalid(calls: Calls) -> None:
    await calls.create("a", "b")
    token = (await calls.page(page_size=1)).next_page_token
    for index in range(len(token) - 1):
        changed = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        await _check_refused(calls, {"page_token": changed})


@pytest.mark.parametrize("cut", [1, 2, 4, 30])
async def test_truncated_page_token_is_invalid(calls: Calls, cut: int) -> None:
    await calls.create("a", "b")
    token = (await calls.page(page_size=1)).next_page_token
    await _check_refused(calls, {"page_token": token[:-cut]})


async def test_resume_token_is_not_a_page_token(calls: Calls) -> None:
    await calls.create("a", "b")
    await _check_refused(calls, {"page_token": await calls.token()})


async def test_page_token_is_valid_with_another_page_size(calls: Calls) -> None:
    await calls.create("a", "b", "c", "d")
    first = await calls.page(page_size=1)
    rest = await calls.page(page_size=3, page_token=first.next_page_token)
    assert _ids(first, rest) == ["a", "b", "c", "d"]


async def test_page_token_is_valid_with_filters_in_another_order(calls: Calls) -> None:
    await _create_many_kinds(calls)
    states = [r.DOCUMENT_STATE_PENDING, r.DOCUMENT_STATE_RUNNING]
    first = await calls.page(states=states, page_size=1)
    rest = await calls.page(states=[*reversed(states)], page_token=first.next_page_token)
    assert _ids(first, rest) == ["new", "parsing", "indexing"]


@pytest.mark.parametrize("filler", ["x", "文", "🗎"], ids=["1_byte", "3_bytes", "4_bytes"])
async def test_pages_of_very_large_documents_fit_a_message_and_lose_nothing(
    calls: Calls, filler: str
) -> None:
    labels = {f"{number:02}{filler * 62}": filler * 256 for number in range(32)}
    ids = [f"{number:03}{filler * 253}" for number in range(120)]
    await calls.create(more_documents_follow=True)
    for first in range(0, 120, 40):
        chosen = ids[first : first + 40]
        await calls.add(*(new(each, labels=labels, display_name=filler * 256) for each in chosen))
    message = filler * 4_096
    error = r.DocumentError(reason="R" * 64, message=message)
    for first in range(0, 120, 40):
        await calls.report(*(failure(each) for each in ids[first : first + 1]))
        rest = ids[first + 1 : first + 40]
        await calls.report(*(stage(each, r.STAGE_PARSING, error=error) for each in rest))
    pages = await calls.pages(page_size=1_000)
    assert _ids(*pages) == ids
    assert len(pages) > 1
    assert all(page.ByteSize() < _MAX_BYTES for page in pages)
    assert pages[0].documents[1].error.message == message
    assert dict(pages[0].documents[1].labels) == labels


async def _check_refused(calls: Calls, fields: dict[str, Any]) -> None:
    refusal = await refused(calls.page(**fields))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, refusal
    assert refusal.reason == "FIELD_INVALID"
    assert list(refusal.fields) == ["page_token"]
