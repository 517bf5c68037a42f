"""Every method of `Client` and `AsyncClient`, on a real server."""

from __future__ import annotations

import inspect
import pickle
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from grpc import aio

import stagecast
from stagecast import errors
from stagecast.app import App
from stagecast.client.endpoint import Endpoint
from stagecast.client.errors import error_of
from stagecast.config import Config
from stagecast.rpc.status import status_of
from tests.access import make_key
from tests.client.faces import NAMES, Face
from tests.client.test_errors import KEY
from tests.process import free_address
from tests.rpc.test_errors import TABLE

HANDBOOK = "handbook"


def _methods(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    threads, loops = _methods(stagecast.Client), _methods(stagecast.AsyncClient)
    assert threads.keys() == loops.keys()
    for name, signature in threads.items():
        assert signature.parameters == loops[name].parameters, name
    assert (
        inspect.signature(stagecast.Client).parameters
        == inspect.signature(stagecast.AsyncClient).parameters
    )


@pytest.mark.parametrize("kind", [stagecast.Client, stagecast.AsyncClient])
def test_every_public_method_has_a_docstring(kind: type) -> None:
    for name in _methods(kind):
        assert inspect.getdoc(getattr(kind, name)), name


async def test_batch_is_created_filled_and_sealed(face: Face) -> None:
    created = await face.call(
        "create_batch",
        HANDBOOK,
        ["a.md", stagecast.NewDocument(document_id="b.md", display_name="B", labels={"k": "v"})],
        batch_id="first",
        labels={"source": "crawl"},
        more_documents_follow=True,
        stall_after=timedelta(minutes=2),
        fail_after=30,
        start_after=1.5,
        seal_after=timedelta(hours=1),
    )
    assert (created.batch_id, created.sealed, created.counts.total) == ("first", False, 2)
    assert created.labels == {"source": "crawl"}
    assert created.stall_after == timedelta(minutes=2)
    assert created.fail_after == timedelta(seconds=30)
    assert created.start_after == timedelta(seconds=1.5)
    assert created.seal_after == timedelta(hours=1)
    added = await face.call("add_documents", HANDBOOK, "first", ["c.md"])
    assert added.counts.pending == 3
    sealed = await face.call("seal_batch", HANDBOOK, "first")
    assert sealed.sealed
    assert sealed == await face.call("get_batch", HANDBOOK, "first")
    document = await face.call("get_document", HANDBOOK, "first", "b.md")
    assert (document.display_name, document.labels) == ("B", {"k": "v"})
    assert (document.state, document.stage) == ("PENDING", "WAITING")


async def test_batch_without_an_id_gets_one(face: Face) -> None:
    first, second = [await face.call("create_batch", HANDBOOK, ["a.md"]) for _ in range(2)]
    assert first.batch_id != second.batch_id
    assert (await face.call("get_batch", HANDBOOK, first.batch_id)) == first


async def test_work_on_a_document_is_reported(face: Face) -> None:
    await face.call("create_batch", HANDBOOK, ["a.md", "b.md"], batch_id="first")
    document = await face.call("start_attempt", HANDBOOK, "first", "a.md", "worker-1")
    assert (document.state, document.attempt, document.worker) == ("RUNNING", 1, "worker-1")
    moment = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)
    results = await face.call(
        "report",
        HANDBOOK,
        "first",
        [
            stagecast.DocumentReport(
                document_id="a.md",
                attempt=1,
                stage=stagecast.Stage.INDEXING,
                progress=stagecast.Progress(completed_segments=2, total_segments=5),
                event_time=moment,
            ),
            stagecast.DocumentReport(document_id="a.md", stage=stagecast.Stage.PARSING),
            stagecast.DocumentReport(
                document_id="b.md", error=stagecast.DocumentError(reason="BAD_PAGE", message="3")
            ),
        ],
    )
    assert [result.outcome for result in results] == ["APPLIED", "OVERTAKEN", "APPLIED"]
    assert [result.document_id for result in results] == ["a.md", "a.md", "b.md"]
    [entered] = [
        transition
        for transition in await face.call("history", HANDBOOK, "first", "a.md")
        if transition.kind == "STAGE_ENTERED"
    ]
    assert entered.event_time == moment
    assert entered.document.progress == stagecast.Progress(completed_segments=2, total_segments=5)
    assert (entered.previous_state, entered.previous_stage) == ("RUNNING", "WAITING")
    failed = await face.call("get_document", HANDBOOK, "first", "b.md")
    assert failed.error == stagecast.DocumentError(reason="BAD_PAGE", message="3")
    orders = await face.call("heartbeat", HANDBOOK, "first", {"a.md": 1, "b.md": 1, "x": 1})
    assert orders == {"a.md": "GO_ON", "b.md": "DROP", "x": "DROP"}


async def test_dataset_is_named(face: Face) -> None:
    for name, expected in (("Handbook", "Handbook"), (None, "Handbook"), ("Händbuch", "Händbuch")):
        await face.call("create_batch", HANDBOOK, ["a.md"], batch_id="first", dataset_name=name)
        assert (await face.call("get_dataset", HANDBOOK)).display_name == expected


async def test_refused_reports_leave_the_others_alone(face: Face) -> None:
    await face.call("create_batch", HANDBOOK, ["a.md"], batch_id="first")
    step = stagecast.Step(name="pages", completed=3, total=7)
    reports = [
        stagecast.DocumentReport(document_id="b.md", stage=stagecast.Stage.PARSING),
        stagecast.DocumentReport(document_id="a.md", progress=stagecast.Progress(step=step)),
    ]
    with pytest.raises(stagecast.DocumentNotFound):
        await face.call("report", HANDBOOK, "first", reports)
    refused, applied = await face.call("report", HANDBOOK, "first", reports, allow_partial=True)
    assert (refused.outcome, refused.refusal.reason) == ("REFUSED", "DOCUMENT_NOT_FOUND")
    assert (applied.outcome, applied.refusal) == ("APPLIED", None)
    document = await face.call("get_document", HANDBOOK, "first", "a.md")
    assert document.progress == stagecast.Progress(step=step)


async def test_document_of_another_worker_is_not_shared(face: Face) -> None:
    await face.call("create_batch", HANDBOOK, ["a.md"], batch_id="first")
    start = ("start_attempt", HANDBOOK, "first", "a.md")
    first = await face.call(*start, "worker-1", only_if_pending=True)
    assert await face.call(*start, "worker-1", only_if_pending=True) == first
    with pytest.raises(stagecast.DocumentTaken, match="taken by worker 'worker-1'") as refusal:
        await face.call(*start, "worker-2", only_if_pending=True)
    assert refusal.value.metadata["state"] == "RUNNING"
    assert (await face.call(*start, "worker-2")).attempt == 2


async def test_batch_and_documents_are_controlled(face: Face) -> None:
    await face.call("create_batch", HANDBOOK, ["a.md", "b.md"], batch_id="first")
    paused = await face.call("pause", HANDBOOK, "first")
    assert (paused.changed_documents, paused.batch.state) == (2, "PAUSED")
    resumed = await face.call("resume", HANDBOOK, "first", "a.md")
    assert (resumed.changed_documents, resumed.batch.counts.paused) == (1, 1)
    stopped = await face.call("stop", HANDBOOK, "first")
    assert (stopped.changed_documents, stopped.batch.state) == (2, "STOPPED")
    assert stopped.batch.state.terminal
    retried = await face.call("retry", HANDBOOK, "first", "b.md")
    assert (retried.changed_documents, retried.batch.counts.pending) == (1, 1)
    assert (await face.call("get_document", HANDBOOK, "first", "b.md")).attempt == 2


async def test_batches_and_datasets_are_deleted(face: Face) -> None:
    for batch_id in ("first", "second"):
        await face.call("create_batch", HANDBOOK, [], batch_id=batch_id)
    assert (await face.call("get_dataset", HANDBOOK)).batches == 2
    assert await face.call("delete_batch", HANDBOOK, "first") is None
    with pytest.raises(stagecast.BatchNotFound):
        await face.call("get_batch", HANDBOOK, "first")
    assert await face.call("delete_dataset", HANDBOOK) is None
    with pytest.raises(stagecast.DatasetNotFound):
        await face.call("get_dataset", HANDBOOK)


async def test_lists_are_whole_and_filtered(face: Face) -> None:
    """Of more documents than a page has."""
    names = [f"{number}.md" for number in range(2_500)]
    await face.call("create_batch", HANDBOOK, names, batch_id="first")
    await face.call("create_batch", HANDBOOK, [], batch_id="empty")
    await face.call("create_batch", "other", ["a.md"], batch_id="first")
    await face.call("stop", HANDBOOK, "first", "7.md")
    documents = await face.call("list_documents", HANDBOOK, "first")
    assert [document.document_id for document in documents] == names
    stopped = await face.call("list_documents", HANDBOOK, "first", states=["STOPPED"])
    assert [document.document_id for document in stopped] == ["7.md"]
    stages = [stagecast.Stage.PARSING, "INDEXING"]
    assert await face.call("list_documents", HANDBOOK, "first", stages=stages) == []
    history = await face.call("history", HANDBOOK, "first")
    assert [transition.revision for transition in history] == list(range(1, 2_504))
    batches = await face.call("list_batches", HANDBOOK)
    assert [batch.batch_id for batch in batches] == ["empty", "first"]
    assert len(await face.call("list_batches")) == 3
    ended = await face.call("list_batches", states=[stagecast.BatchState.SUCCEEDED])
    assert [batch.batch_id for batch in ended] == ["empty"]
    assert len(await face.call("list_datasets")) == 2
    [dataset] = await face.call("list_datasets", ["other", "none"])
    assert dataset.counts.pending == 1


async def test_dataset_has_a_uuid_made_from_its_name(face: Face) -> None:
    batch = await face.call("create_batch", HANDBOOK, [], batch_id="first")
    known = uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_DNS, "stagecast"), HANDBOOK)
    assert batch.dataset_id == str(known) == str(uuid.uuid5(stagecast.DATASET_NAMESPACE, HANDBOOK))
    for same in (known, str(known), str(known).upper()):
        assert (await face.call("get_batch", same, "first")) == batch


@pytest.mark.parametrize("dataset", [None, 7, ""])
async def test_dataset_without_a_name_is_refused(face: Face, dataset: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="use a UUID or a name"):
        await face.call("create_batch", dataset, ["a"])


async def test_unknown_enum_value_is_refused_before_the_call(face: Face) -> None:
    for states in (["DONE"], ["failed"]):
        with pytest.raises(ValueError, match=f"'{states[0]}'; use one of PENDING, .*STOPPED$"):
            await face.call("list_documents", HANDBOOK, "first", states=states)
    stage: Any = "PARSED"
    report = stagecast.DocumentReport(document_id="a", stage=stage)
    with pytest.raises(ValueError, match="invalid Stage 'PARSED'; use one of WAITING, "):
        await face.call("report", HANDBOOK, "first", [report])


async def test_one_text_is_not_taken_as_a_list_of_letters(face: Face) -> None:
    with pytest.raises(TypeError, match=r"'abc' is not a list; use \['abc'\]"):
        await face.call("create_batch", HANDBOOK, "abc")
    with pytest.raises(TypeError, match="is not a list"):
        await face.call("list_documents", HANDBOOK, "first", states="FAILED")
    with pytest.raises(TypeError, match="is not a list"):
        await face.call("list_datasets", HANDBOOK)
    with pytest.raises(TypeError, match="invalid document 1; use an id or a NewDocument"):
        await face.call("create_batch", HANDBOOK, [1])


# Wait.


async def test_wait_returns_the_ended_batch(face: Face) -> None:
    await face.call("create_batch", HANDBOOK, ["a.md"], batch_id="first")
    report = stagecast.DocumentReport(document_id="a.md", stage=stagecast.Stage.COMPLETED)
    await face.call("report", HANDBOOK, "first", [report])
    batch = await face.call("wait", HANDBOOK, "first")
    assert batch.state is stagecast.BatchState.SUCCEEDED


@pytest.mark.parametrize("timeout_s", [0, 0.05])
async def test_wait_that_takes_too_long_times_out(face: Face, timeout_s: float) -> None:
    await face.call("create_batch", HANDBOOK, ["a.md"], batch_id="first")
    with pytest.raises(
        TimeoutError, match=r"not ended within .* s: batch first: PENDING"
    ) as caught:
        await face.call("wait", HANDBOOK, "first", timeout=timeout_s)
    assert isinstance(caught.value, stagecast.TimedOut)
    assert (caught.value.reason, caught.value.batch_id) == ("TIMED_OUT", "first")


async def test_wait_for_a_batch_that_is_not_there_fails(face: Face) -> None:
    with pytest.raises(stagecast.BatchNotFound):
        await face.call("wait", HANDBOOK, "first", timeout=60)


# Errors.


async def test_errors_have_a_class_a_reason_ids_and_a_sentence(face: Face) -> None:
    dataset_id = str(uuid.uuid4())
    with pytest.raises(stagecast.BatchNotFound) as caught:
        await face.call("get_batch", dataset_id, "nope")
    error = caught.value
    assert error.reason == "BATCH_NOT_FOUND"
    assert (error.dataset_id, error.batch_id, error.document_id) == (dataset_id, "nope", None)
    assert str(error) == f"no batch 'nope' in dataset '{dataset_id}'"
    assert isinstance(error, stagecast.NotFoundError)
    assert error.__cause__ is None
    assert error.__suppress_context__, "no error of grpc is printed"


async def test_each_refusal_has_its_class(face: Face) -> None:
    report = stagecast.DocumentReport
    await face.call("create_batch", HANDBOOK, ["a.md"], batch_id="first")
    with pytest.raises(stagecast.BatchExists):
        await face.call("create_batch", HANDBOOK, ["b.md"], batch_id="first")
    with pytest.raises(stagecast.BatchSealed):
        await face.call("add_documents", HANDBOOK, "first", ["b.md"])
    with pytest.raises(stagecast.DocumentNotFound) as unknown:
        await face.call("get_document", HANDBOOK, "first", "b.md")
    assert unknown.value.document_id == "b.md"
    with pytest.raises(stagecast.FieldInvalid) as invalid:
        await face.call("get_batch", HANDBOOK, "no spaces")
    assert invalid.value.field == "batch_id"
    assert str(invalid.value) == f"batch_id: {invalid.value.rule}"
    for worker in ("one", "two"):
        await face.call("start_attempt", HANDBOOK, "first", "a.md", worker)
    parsing = report(document_id="a.md", attempt=1, stage=stagecast.Stage.PARSING)
    with pytest.raises(stagecast.StaleAttempt) as stale:
        await face.call("report", HANDBOOK, "first", [parsing])
    assert stale.value.metadata["attempt"] == "2"
    await face.call("stop", HANDBOOK, "first")
    parsing = report(document_id="a.md", stage=stagecast.Stage.PARSING)
    with pytest.raises(stagecast.IllegalTransition) as ended:
        await face.call("report", HANDBOOK, "first", [parsing])
    assert isinstance(ended.value, stagecast.RefusedError)


@pytest.mark.parametrize("name", NAMES)
async def test_missing_or_wrong_key_is_an_error_of_credentials(
    name: str, server: App, config: Config
) -> None:
    key = await make_key(config.db)
    await Face(name, server.grpc_address, key=key).call("list_datasets")
    with pytest.raises(stagecast.CredentialsMissing, match="pass key or set STAGECAST_KEY"):
        await Face(name, server.grpc_address).call("list_datasets")
    with pytest.raises(stagecast.CredentialsInvalid):
        await Face(name, server.grpc_address, key=f"{key}x").call("list_datasets")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("method", "args"), [("get_batch", ("d", "b")), ("wait", ("d", "b")), ("list_batches", ())]
)
async def test_server_that_is_not_there_is_unavailable_at_once(
    name: str, method: str, args: tuple[str, ...]
) -> None:
    address = free_address()
    face = Face(name, address, timeout=3_600)
    with pytest.raises(stagecast.Unavailable) as caught:
        await face.call(method, *args)
    await face.close()
    assert str(caught.value) == (
        f"cannot reach {address}: connection refused; is a server running there?"
    )
    assert caught.value.reason == "UNAVAILABLE"
    assert isinstance(caught.value, stagecast.RetryableError)


async def test_closed_client_says_so(face: Face) -> None:
    await face.call("list_datasets")
    await face.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        await face.call("list_datasets")


@pytest.mark.parametrize("error_class", TABLE, ids=lambda each: each.__name__)
def test_every_error_of_the_server_becomes_the_same_error(
    error_class: type[errors.StagecastError],
) -> None:
    _, _, sent = TABLE[error_class]
    metadata = aio.Metadata((KEY, status_of(sent).SerializeToString()))
    failed = aio.AioRpcError(status_code(sent), aio.Metadata(), metadata, details=str(sent))
    received = error_of(failed, Endpoint("127.0.0.1:1"))
    assert type(received) is error_class
    for error in (received, pickle.loads(pickle.dumps(received))):  # noqa: S301 - our own
        assert type(error) is type(received)
        assert error.metadata == sent.metadata
        assert error.reason == sent.reason
        if not isinstance(sent, errors.CredentialsMissing):
            assert str(error) == str(sent)
        for name in ("field", "rule", "retry_after_s"):
            assert getattr(error, name, None) == getattr(sent, name, None)


def status_code(error: errors.StagecastError) -> grpc.StatusCode:
    """Return the code that the server sends."""
    number = status_of(error).code
    return next(code for code in grpc.StatusCode if code.value[0] == number)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNIMPLEMENTED, stagecast.CallFailed),
        (grpc.StatusCode.INTERNAL, stagecast.CallFailed),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, stagecast.CallFailed),
        (grpc.StatusCode.UNAVAILABLE, stagecast.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, stagecast.Unavailable),
        (grpc.StatusCode.CANCELLED, stagecast.Unavailable),
    ],
)
def test_error_without_a_reason_is_named_by_its_code(
    code: grpc.StatusCode, kind: type[stagecast.StagecastError]
) -> None:
    failed = aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), details="oh")
    error = error_of(failed, Endpoint("127.0.0.1:1"))
    assert type(error) is kind
    assert error.reason == ("UNAVAILABLE" if kind is stagecast.Unavailable else code.name)
    assert "127.0.0.1:1" in str(error)
