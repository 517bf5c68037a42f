"""`dify-dataset-sdk`, as its users install it, reads batches from a real server.

It has one call for the path and no asynchronous client, so the call runs in a thread; polling until
the end is left to its callers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from dify_dataset_sdk import (
    DifyAuthenticationError,
    DifyDatasetClient,
    DifyNotFoundError,
    IndexingStatus,
    IndexingStatusResponse,
)

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.model import Scope
from stagecast.v1 import resources_pb2 as r
from tests.access import make_key
from tests.clock import START_US, Clock
from tests.conditions import until
from tests.rest.answers import WAITING
from tests.rpc.calls import BATCH, Calls, counters, failure, refused, stage

START = START_US // 1_000_000

OTHER = "1b2d1e2f-9b4c-4a1f-8e4d-4a2a7a1d3c22"

STAGES = (r.STAGE_PARSING, r.STAGE_CLEANING, r.STAGE_SPLITTING, r.STAGE_INDEXING)

Poll = Callable[..., Awaitable[list[IndexingStatus]]]


@pytest.fixture
def calls(client: Stubs, dataset_id: str) -> Calls:
    return Calls(client, dataset_id)


@pytest.fixture
def sdk(server: App) -> Iterator[DifyDatasetClient]:
    """The SDK's client with the address of our server."""
    with DifyDatasetClient(api_key="any", base_url=f"http://{server.http_address}") as sdk:
        yield sdk


@pytest.fixture
def poll(sdk: DifyDatasetClient, dataset_id: str) -> Poll:
    """Polls the test's dataset once, and returns the documents."""

    async def poll(batch_id: str = BATCH, dataset_id: str = dataset_id) -> list[IndexingStatus]:
        answer = await asyncio.to_thread(sdk.documents.get_indexing_status, dataset_id, batch_id)
        assert isinstance(answer, IndexingStatusResponse)
        return answer.data

    return poll


async def go_through_the_stages(calls: Calls, clock: Clock, document_id: str) -> None:
    """Move a document to INDEXING, ten seconds per stage."""
    for reached in STAGES:
        clock.advance(10)
        await calls.report(stage(document_id, reached))


async def test_waiting_document_has_no_times_and_zero_counters(calls: Calls, poll: Poll) -> None:
    await calls.create("a")
    [document] = await poll()
    assert document.model_dump() == {"id": "a", **WAITING}
    assert type(document.completed_segments) is type(document.total_segments) is int


async def test_running_document_has_the_times_of_completed_stages(
    calls: Calls, poll: Poll, clock: Clock
) -> None:
    await calls.create("a")
    await go_through_the_stages(calls, clock, "a")
    await calls.report(counters("a", 3, 12))
    [document] = await poll()
    assert document.model_dump() == {
        **WAITING,
        "id": "a",
        "indexing_status": "indexing",
        "processing_started_at": START + 10,
        "parsing_completed_at": START + 20,
        "cleaning_completed_at": START + 30,
        "splitting_completed_at": START + 40,
        "completed_segments": 3,
        "total_segments": 12,
    }
    assert type(document.completed_segments) is type(document.total_segments) is int


async def test_succeeded_document_is_completed(calls: Calls, poll: Poll, clock: Clock) -> None:
    await calls.create("a")
    await go_through_the_stages(calls, clock, "a")
    clock.advance(10)
    await calls.report(counters("a", 12, 12), stage("a", r.STAGE_COMPLETED))
    [document] = await poll()
    assert (document.indexing_status, document.error) == ("completed", None)
    assert (document.completed_at, document.stopped_at) == (START + 50, None)
    assert (document.completed_segments, document.total_segments) == (12, 12)


async def test_failed_document_is_an_error_with_its_message(
    calls: Calls, poll: Poll, clock: Clock
) -> None:
    await calls.create("a")
    await go_through_the_stages(calls, clock, "a")
    clock.advance(10)
    await calls.report(failure("a"))
    [document] = await poll()
    assert (document.indexing_status, document.error) == ("error", "Page 3 is no text.")
    assert (document.completed_at, document.stopped_at) == (None, START + 50)


async def test_paused_stopped_and_retried_document_has_that_status(
    calls: Calls, poll: Poll, clock: Clock
) -> None:
    """Pollers end on a stopped document, which is shown as an error, but not on a paused one."""
    await calls.create("a")
    await calls.report(stage("a", r.STAGE_PARSING), counters("a", 1, 2))
    clock.advance(10)
    await calls.pause()
    [document] = await poll()
    assert (document.indexing_status, document.paused_at) == ("paused", START + 10)
    assert (document.stopped_at, document.completed_segments) == (None, 1)
    clock.advance(10)
    await calls.stop()
    [document] = await poll()
    assert (document.indexing_status, document.error) == ("error", "Stopped.")
    assert (document.stopped_at, document.paused_at) == (START + 20, None)
    await calls.retry()
    [document] = await poll()
    assert document.model_dump() == {"id": "a", **WAITING}


async def test_documents_of_a_batch_with_a_generated_id_come_in_order(
    calls: Calls, poll: Poll
) -> None:
    names = ["docs/büro.md", "a", OTHER]
    created = await calls.create(*names, batch_id="")
    assert [document.id for document in await poll(created.batch.batch_id)] == names


async def test_poller_ends_when_every_document_is_completed_or_an_error(
    calls: Calls, poll: Poll, clock: Clock
) -> None:
    await calls.create("good", "bad")

    async def work() -> None:
        await go_through_the_stages(calls, clock, "good")
        await calls.report(failure("bad"))
        await calls.report(stage("good", r.STAGE_COMPLETED))

    polls: list[tuple[str, ...]] = []
    async with asyncio.timeout(600), asyncio.TaskGroup() as group:
        group.create_task(work())
        while not (polls and {*polls[-1]} <= {"completed", "error"}):
            polls.append(tuple(document.indexing_status for document in await poll()))
    assert polls[-1] == ("completed", "error")
    order = ["waiting", "parsing", "cleaning", "splitting", "indexing", "completed"]
    assert [good for good, _ in polls] == sorted((good for good, _ in polls), key=order.index)


@pytest.mark.parametrize(
    "unknown", [{"dataset_id": OTHER}, {"dataset_id": "malformed"}, {"batch_id": "b2"}]
)
async def test_unknown_dataset_or_batch_raises_its_not_found(
    calls: Calls, poll: Poll, unknown: dict[str, str]
) -> None:
    await calls.create("a")
    with pytest.raises(DifyNotFoundError) as caught:
        await poll(**unknown)
    # The SDK has its own message for every 404 and ignores ours.
    assert str(caught.value) == "Resource not found (HTTP 404)"


async def test_sdk_reads_with_a_key_and_is_refused_without(
    server: App, config: Config, calls: Calls
) -> None:
    await calls.create("a")
    url = f"http://{server.http_address}"
    key = await make_key(config.db, Scope.READ, datasets=[calls.dataset_id])
    reasons: list[str] = []

    async def get_reason() -> None:
        reasons.append((await refused(calls.batch(batch_id="none"))).reason)

    await until(lambda: reasons[-1:] == ["CREDENTIALS_MISSING"], meanwhile=get_reason)
    with DifyDatasetClient(api_key=key, base_url=url) as sdk:
        read = await asyncio.to_thread(sdk.documents.get_indexing_status, calls.dataset_id, BATCH)
        assert [status.id for status in read.data] == ["a"]
        with pytest.raises(DifyNotFoundError):
            await asyncio.to_thread(sdk.documents.get_indexing_status, OTHER, BATCH)
    with (
        DifyDatasetClient(api_key="wrong", base_url=url) as stranger,
        pytest.raises(DifyAuthenticationError),
    ):
        await asyncio.to_thread(stranger.documents.get_indexing_status, calls.dataset_id, BATCH)
