"""A key for some datasets: the others answer as if they were not there, to the byte."""

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
from stagecast.client import Client
from stagecast.config import Config
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.access import make_key
from tests.conditions import until
from tests.grpc_calls import read
from tests.rpc.calls import BATCH, Calls, contents, counters, refused, stage
from tests.rpc.test_bad_input import FIELDS, IN_DATASET, SOUND

MINE = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
THEIRS = "6a1c0d1e-8a3b-4f0e-9d3c-3f1f6f0c2b11"

# What may be looked at before or after the ids.
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
async def all_seeing(config: Config, server: App) -> AsyncIterator[Client]:
    async with Client(server.grpc_address, key=await make_key(config.db)) as client:
        await until_let_in(client)
        yield client


@pytest.fixture
async def client(config: Config, server: App) -> AsyncIterator[Client]:
    """Somebody who sees one dataset."""
    key = await make_key(config.db, datasets=[MINE])
    async with Client(server.grpc_address, key=key) as client:
        await until_let_in(client)
        yield client


async def until_let_in(client: Client) -> None:
    """Wait until the server knows the client's key."""
    actual: list[int] = []

    async def look() -> None:
        try:
            actual.append(
                len((await client.status.ListDatasets(ss.ListDatasetsRequest())).datasets)
            )
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise

    await until(lambda: bool(actual), meanwhile=look)


def _request(rpc: str, fields: dict[str, Any]) -> Message:
    request = type(SOUND[rpc])()
    request.CopyFrom(SOUND[rpc])
    for name in fields:
        request.ClearField(name)
    request.MergeFrom(type(request)(**fields))
    return request


async def ask(client: Client, rpc: str, **fields: Any) -> Any:
    """Call an RPC; what a stream sends until it ends."""
    request = _request(rpc, {"dataset_id": THEIRS, **fields})
    [stub] = [s for s in (client.status, client.reports, client.controls) if hasattr(s, rpc)]
    call = getattr(stub, rpc)(request, timeout=60)
    return [message async for message in call] if rpc.startswith("Watch") else await call


async def outcome(client: Client, rpc: str, **fields: Any) -> tuple[Any, ...]:
    """Return everything that a client can see of a refusal."""
    with pytest.raises(aio.AioRpcError) as raised:
        await ask(client, rpc, **fields)
    error = raised.value
    return (
        error.code(),
        error.details(),
        tuple(error.initial_metadata()),
        tuple(error.trailing_metadata()),
    )


async def test_forbidden_dataset_answers_as_an_unknown_one(
    client: Client, all_seeing: Client
) -> None:
    before = [await outcome(client, rpc, **fields) for rpc, fields in REQUESTED]
    theirs = Calls(all_seeing, THEIRS)
    await theirs.create("a", "b")
    await theirs.create("a", batch_id="", request_id="again")
    await theirs.report(stage("a", r.STAGE_PARSING))
    after = [await outcome(client, rpc, **fields) for rpc, fields in REQUESTED]
    for (rpc, fields), unknown, forbidden in zip(REQUESTED, before, after, strict=True):
        assert forbidden == unknown, (rpc, fields)
    assert {rpc for rpc, _ in REQUESTED} == set(IN_DATASET)
    assert (await theirs.batch()).revision == 5


async def test_batch_is_created_only_where_the_key_says(client: Client, all_seeing: Client) -> None:
    refusal = await refused(ask(client, "CreateBatch", batch_id=BATCH))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND")
    assert refusal.message == f"no dataset '{THEIRS}'"
    await Calls(client, MINE).create("a")
    listed = await all_seeing.status.ListDatasets(ss.ListDatasetsRequest())
    assert [dataset.dataset_id for dataset in listed.datasets] == [MINE]


async def test_key_for_a_dataset_does_everything_in_it(client: Client) -> None:
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


async def test_what_such_a_key_deletes_is_swept_at_once(client: Client, config: Config) -> None:
    calls = Calls(client, MINE)
    for _ in range(2):
        await calls.create("a")
        await calls.delete_batch()
        await until(lambda: not contents(config.db)["documents"])


async def _three(client: Client) -> None:
    """Leave batches in three datasets, in turns; one of them can be seen."""
    for number in range(2):
        for dataset_id in (THEIRS, MINE, str(uuid.uuid4())):
            await Calls(client, dataset_id).create("a", batch_id=f"b{number}")


async def test_lists_hold_what_can_be_seen(client: Client, all_seeing: Client) -> None:
    await _three(all_seeing)
    everything = await all_seeing.status.ListBatches(ss.ListBatchesRequest())
    assert len(everything.batches) == 6
    batches = await client.status.ListBatches(ss.ListBatchesRequest())
    assert [(b.dataset_id, b.batch_id) for b in batches.batches] == [(MINE, "b1"), (MINE, "b0")]
    for named in ([], [THEIRS], [MINE, THEIRS]):
        listed = await client.status.ListDatasets(ss.ListDatasetsRequest(dataset_ids=named))
        expected = [] if named == [THEIRS] else [MINE]
        assert [dataset.dataset_id for dataset in listed.datasets] == expected


async def test_page_token_of_somebody_else_shows_nothing_more(
    client: Client, all_seeing: Client
) -> None:
    await _three(all_seeing)
    for ask, kind, field in (
        ("ListBatches", ss.ListBatchesRequest, "batches"),
        ("ListDatasets", ss.ListDatasetsRequest, "datasets"),
    ):
        page = await getattr(all_seeing.status, ask)(kind(page_size=1))
        while page.next_page_token:
            request = kind(page_size=1, page_token=page.next_page_token)
            shown = await getattr(client.status, ask)(request)
            assert {item.dataset_id for item in getattr(shown, field)} <= {MINE}
            page = await getattr(all_seeing.status, ask)(request)


async def test_page_token_tells_nothing_of_what_cannot_be_seen(
    client: Client, all_seeing: Client
) -> None:
    """Neither in plain words nor by its length, however many batches others make."""
    reported = []
    for rounds in range(2):
        for number in range(3):
            await Calls(all_seeing, THEIRS).create("a", batch_id=f"theirs-{rounds}-{number}")
        for number in range(2):
            await Calls(all_seeing, MINE).create("a", batch_id=f"mine-{rounds}-{number}")
        page = await client.status.ListBatches(ss.ListBatchesRequest(page_size=1))
        reported.append(base64.urlsafe_b64decode(page.next_page_token + "=="))
    assert len({len(raw) for raw in reported}) == 1
    assert not any(b'",""]' in raw for raw in reported)  # as it would stand there unhidden


async def test_watch_of_all_datasets_tells_of_those_that_can_be_seen(
    client: Client, all_seeing: Client
) -> None:
    await _three(all_seeing)
    watches = {
        named: client.status.WatchDatasets(ss.WatchDatasetsRequest(dataset_ids=named), timeout=60)
        for named in ((), (MINE, THEIRS))
    }
    for watch in watches.values():
        first = await read(watch)
        assert [dataset.dataset_id for dataset in first.datasets] == [MINE]
        assert first.complete
    await Calls(all_seeing, THEIRS).report(stage("a", r.STAGE_PARSING), batch_id="b0")
    await Calls(all_seeing, THEIRS).delete_dataset()
    await Calls(all_seeing, MINE).delete_dataset()
    for watch in watches.values():
        reported: list[str] = []
        while not reported:
            message = await read(watch)
            assert {dataset.dataset_id for dataset in message.datasets} <= {MINE}
            reported = list(message.removed_dataset_ids)
        assert reported == [MINE]
        watch.cancel()


async def test_key_sees_a_dataset_that_comes_later(client: Client, all_seeing: Client) -> None:
    assert (await refused(Calls(client, MINE).dataset())).reason == "DATASET_NOT_FOUND"
    await Calls(all_seeing, MINE).create("a")
    assert (await Calls(client, MINE).dataset()).dataset_id == MINE
