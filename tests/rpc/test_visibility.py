"""A key for some datasets: the others answer exactly like unknown ones."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc import aio

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.access import make_key
from tests.conditions import until
from tests.grpc_calls import read
from tests.rpc.calls import BATCH, Calls, contents, counters, refused, stage
from tests.rpc.test_bad_input import FIELDS, IN_DATASET, VALID

MINE = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
THEIRS = "6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11"

# Fields that may be checked before or after the ids.
ODD: dict[str, list[dict[str, Any]]] = {
    "WatchBatch": [{"resume_token": "nonsense"}, {"fail_on_expired_token": True}, {"follow": True}],
    "ListBatches": [{"page_token": "nonsense"}, {"page_size": -1}],
    "ListDocuments": [{"page_token": "nonsense"}, {"page_size": -1}],
    "ListTransitions": [{"page_token": "nonsense"}, {"document_id": "nobody"}],
    "GetDocument": [{"document_id": "nobody"}, {"document_id": ""}],
    "CreateBatch": [{"batch_id": ""}, {"request_id": "again", "batch_id": ""}, {"documents": []}],
    "AddDocuments": [{"documents": []}],
    "Report": [{"reports": [counters("nobody", 1)]}, {"reports": [counters("a", 2, 1)]}],
    "StartAttempt": [{"document_id": "nobody"}, {"worker": ""}],
    "Pause": [{"document_id": "a"}, {"document_id": "nobody"}],
}
REQUESTED = [
    (rpc, {"batch_id": batch_id} | odd if "batch_id" in FIELDS[rpc] else odd)
    for rpc in IN_DATASET
    for batch_id in (BATCH, "unknown")
    for odd in [{}, *ODD.get(rpc, [])]
    if "batch_id" in FIELDS[rpc] or batch_id == BATCH
]


@pytest.fixture
async def server(config: Config) -> AsyncIterator[App]:
    await make_key(config.db)
    async with App(config) as app:
        yield app


@pytest.fixture
async def unrestricted(config: Config, server: App) -> AsyncIterator[Stubs]:
    async with Stubs(server.grpc_address, key=await make_key(config.db)) as client:
        await until_admitted(client)
        yield client


@pytest.fixture
async def client(config: Config, server: App) -> AsyncIterator[Stubs]:
    """A client whose key is for one dataset."""
    key = await make_key(config.db, datasets=[MINE])
    async with Stubs(server.grpc_address, key=key) as client:
        await until_admitted(client)
        yield client


async def until_admitted(client: Stubs) -> None:
    """Wait until the server knows the client's key."""
    actual: list[int] = []

    async def poll() -> None:
        try:
            actual.append(
                len((await client.status.ListDatasets(ss.ListDatasetsRequest())).datasets)
            )
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise

    await until(lambda: bool(actual), meanwhile=poll)


def _request(rpc: str, fields: dict[str, Any]) -> Message:
    request = type(VALID[rpc])()
    request.CopyFrom(VALID[rpc])
    for name in fields:
        request.ClearField(name)
    request.MergeFrom(type(request)(**fields))
    return request


async def call_rpc(client: Stubs, rpc: str, **fields: Any) -> Any:
    """Call an RPC; of a stream, return all messages."""
    request = _request(rpc, {"dataset_id": THEIRS, **fields})
    [stub] = [s for s in (client.status, client.reports, client.controls) if hasattr(s, rpc)]
    call = getattr(stub, rpc)(request, timeout=60)
    return [message async for message in call] if rpc.startswith("Watch") else await call


async def outcome(client: Stubs, rpc: str, **fields: Any) -> tuple[Any, ...]:
    """Return everything that a client receives of a refusal."""
    with pytest.raises(aio.AioRpcError) as raised:
        await call_rpc(client, rpc, **fields)
    error = raised.value
    return (
        error.code(),
        error.details(),
        tuple(error.initial_metadata()),
        tuple(error.trailing_metadata()),
    )


async def test_forbidden_dataset_answers_like_an_unknown_one(
    client: Stubs, unrestricted: Stubs
) -> None:
    before = [await outcome(client, rpc, **fields) for rpc, fields in REQUESTED]
    theirs = Calls(unrestricted, THEIRS)
    await theirs.create("a", "b")
    await theirs.create("a", batch_id="", request_id="again")
    await theirs.report(stage("a", r.STAGE_PARSING))
    after = [await outcome(client, rpc, **fields) for rpc, fields in REQUESTED]
    for (rpc, fields), unknown, forbidden in zip(REQUESTED, before, after, strict=True):
        assert forbidden == unknown, (rpc, fields)
    assert {rpc for rpc, _ in REQUESTED} == set(IN_DATASET)
    assert (await theirs.batch()).revision == 5


async def test_key_creates_batches_in_its_datasets_only(client: Stubs, unrestricted: Stubs) -> None:
    refusal = await refused(call_rpc(client, "CreateBatch", batch_id=BATCH))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND")
    assert refusal.message == f"no dataset '{THEIRS}'"
    await Calls(client, MINE).create("a")
    listed = await unrestricted.status.ListDatasets(ss.ListDatasetsRequest())
    assert [dataset.dataset_id for dataset in listed.datasets] == [MINE]


async def test_key_for_a_dataset_does_everything_in_it(client: Stubs) -> None:
    calls = Calls(client, MINE)
    created = await calls.create("a", "b", more_documents_follow=True)
    assert await calls.create("a", "b", more_documents_follow=True) == created
    await calls.add("c")
    await calls.seal()
    await calls.start("a")
    assert await calls.orders("a") == [rs.WORKER_ORDER_GO_ON]
    await calls.report(stage("a", r.STAGE_COMPLETED), stage("b", r.STAGE_COMPLETED))
    await calls.stop("c")
    assert (await calls.wait()).done
    assert len((await calls.pages())[0].documents) == 3
    assert (await calls.watch())[-1].batch == await calls.batch()
    assert len(await calls.history()) == (await calls.batch()).revision
    await calls.retry("c")
    assert (await calls.dataset()).batches == 1
    await calls.delete_batch()
    await calls.delete_dataset()


async def test_items_deleted_by_a_restricted_key_are_swept_at_once(
    client: Stubs, config: Config
) -> None:
    calls = Calls(client, MINE)
    for _ in range(2):
        await calls.create("a")
        await calls.delete_batch()
        await until(lambda: not contents(config.db)["documents"])


async def _three(client: Stubs) -> None:
    """Create batches in three datasets alternately, one of them visible."""
    for number in range(2):
        for dataset_id in (THEIRS, MINE, str(uuid.uuid4())):
            await Calls(client, dataset_id).create("a", batch_id=f"b{number}")


async def test_lists_hold_visible_datasets_only(client: Stubs, unrestricted: Stubs) -> None:
    await _three(unrestricted)
    everything = await unrestricted.status.ListBatches(ss.ListBatchesRequest())
    assert len(everything.batches) == 6
    batches = await client.status.ListBatches(ss.ListBatchesRequest())
    assert [(b.dataset_id, b.batch_id) for b in batches.batches] == [(MINE, "b1"), (MINE, "b0")]
    for requested in ([], [THEIRS], [MINE, THEIRS]):
        listed = await client.status.ListDatasets(ss.ListDatasetsRequest(dataset_ids=requested))
        expected = [] if requested == [THEIRS] else [MINE]
        assert [dataset.dataset_id for dataset in listed.datasets] == expected


async def test_page_token_of_another_caller_reveals_nothing(
    client: Stubs, unrestricted: Stubs
) -> None:
    await _three(unrestricted)
    for rpc, request_type, field in (
        ("ListBatches", ss.ListBatchesRequest, "batches"),
        ("ListDatasets", ss.ListDatasetsRequest, "datasets"),
    ):
        page = await getattr(unrestricted.status, rpc)(request_type(page_size=1))
        while page.next_page_token:
            request = request_type(page_size=1, page_token=page.next_page_token)
            response = await getattr(client.status, rpc)(request)
            assert {item.dataset_id for item in getattr(response, field)} <= {MINE}
            page = await getattr(unrestricted.status, rpc)(request)


async def test_page_token_reveals_nothing_about_hidden_datasets(
    client: Stubs, unrestricted: Stubs
) -> None:
    """Neither by its content nor by its length, however many batches others create."""
    contents_of_tokens = []
    for attempt in range(2):
        for number in range(3):
            await Calls(unrestricted, THEIRS).create("a", batch_id=f"theirs-{attempt}-{number}")
        for number in range(2):
            await Calls(unrestricted, MINE).create("a", batch_id=f"mine-{attempt}-{number}")
        page = await client.status.ListBatches(ss.ListBatchesRequest(page_size=1))
        contents_of_tokens.append(base64.urlsafe_b64decode(page.next_page_token + "=="))
    assert len({len(content) for content in contents_of_tokens}) == 1
    assert not any(b'",""]' in content for content in contents_of_tokens)  # as in plain text


async def test_watch_of_all_datasets_sends_visible_ones_only(
    client: Stubs, unrestricted: Stubs
) -> None:
    await _three(unrestricted)
    watches = {
        ids: client.status.WatchDatasets(ss.WatchDatasetsRequest(dataset_ids=ids), timeout=60)
        for ids in ((), (MINE, THEIRS))
    }
    for watch in watches.values():
        first = await read(watch)
        assert [dataset.dataset_id for dataset in first.datasets] == [MINE]
        assert first.complete
    await Calls(unrestricted, THEIRS).report(stage("a", r.STAGE_PARSING), batch_id="b0")
    await Calls(unrestricted, THEIRS).delete_dataset()
    await Calls(unrestricted, MINE).delete_dataset()
    for watch in watches.values():
        removed: list[str] = []
        while not removed:
            message = await read(watch)
            assert {dataset.dataset_id for dataset in message.datasets} <= {MINE}
            removed = list(message.removed_dataset_ids)
        assert removed == [MINE]
        watch.cancel()


async def test_dataset_created_later_is_visible(client: Stubs, unrestricted: Stubs) -> None:
    assert (await refused(Calls(client, MINE).dataset())).reason == "DATASET_NOT_FOUND"
    await Calls(unrestricted, MINE).create("a")
    assert (await Calls(client, MINE).dataset()).dataset_id == MINE
