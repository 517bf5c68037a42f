"""Every error: its code, its reason, its details, and what clients must not see."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc import aio
from sqlite_utils.utils import sqlite3

from stagecast import errors
from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.model import tokens
from stagecast.rpc.status import DOMAIN, status_of
from stagecast.store.sqlite import connection as store_connection
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.clock import Clock
from tests.grpc_calls import read
from tests.rpc.calls import (
    BATCH,
    Calls,
    contents,
    counters,
    execute,
    failure,
    new,
    refusal_of,
    refused,
    stage,
)

Code = grpc.StatusCode

NUMBERS = ("revision", "write_id", "progress_seq", "server_epoch")  # of a resume token

# For each error the code, the reason, and an example.
TABLE: dict[type[errors.StagecastError], tuple[grpc.StatusCode, str, errors.StagecastError]] = {
    type(example): (code, reason, example)
    for code, reason, example in (
        (Code.UNAUTHENTICATED, "CREDENTIALS_MISSING", errors.CredentialsMissing("no")),
        (Code.UNAUTHENTICATED, "CREDENTIALS_INVALID", errors.CredentialsInvalid("no")),
        (Code.UNAUTHENTICATED, "CREDENTIALS_EXPIRED", errors.CredentialsExpired("no")),
        (Code.PERMISSION_DENIED, "SCOPE_MISSING", errors.ScopeMissing("no", scope="read")),
        (Code.INVALID_ARGUMENT, "FIELD_INVALID", errors.FieldInvalid("labels", "must be few")),
        (Code.INVALID_ARGUMENT, "TOKEN_INVALID", errors.TokenInvalid("token", "no")),
        (Code.NOT_FOUND, "DATASET_NOT_FOUND", errors.DatasetNotFound("d")),
        (Code.NOT_FOUND, "BATCH_NOT_FOUND", errors.BatchNotFound("d", "b")),
        (Code.NOT_FOUND, "BATCH_DELETED", errors.BatchDeleted("d", "b")),
        (Code.NOT_FOUND, "DOCUMENT_NOT_FOUND", errors.DocumentNotFound("d", "b", "c")),
        (Code.ALREADY_EXISTS, "BATCH_EXISTS", errors.BatchExists("no", dataset_id="d")),
        (Code.ALREADY_EXISTS, "DOCUMENT_EXISTS", errors.DocumentExists("no", dataset_id="d")),
        (Code.FAILED_PRECONDITION, "ILLEGAL_TRANSITION", errors.IllegalTransition("no", stage=1)),
        (Code.FAILED_PRECONDITION, "STALE_ATTEMPT", errors.StaleAttempt("no", attempt=2)),
        (Code.FAILED_PRECONDITION, "BATCH_SEALED", errors.BatchSealed("no", dataset_id="d")),
        (Code.FAILED_PRECONDITION, "DOCUMENT_TAKEN", errors.DocumentTaken("no", attempt=2)),
        (Code.OUT_OF_RANGE, "TOKEN_EXPIRED", errors.TokenExpired("no", dataset_id="d")),
        (Code.OUT_OF_RANGE, "HISTORY_CHANGED", errors.HistoryChanged("no", dataset_id="d")),
        (Code.RESOURCE_EXHAUSTED, "WATCH_LIMIT", errors.WatchLimit("no", retry_after_s=0.25)),
        (Code.RESOURCE_EXHAUSTED, "SLOW_READER", errors.SlowReader("no", retry_after_s=0.25)),
        (Code.RESOURCE_EXHAUSTED, "SLOW_SENDER", errors.SlowSender("no", retry_after_s=0.25)),
        (Code.UNAVAILABLE, "DRAINING", errors.Draining("no", retry_after_s=0.25)),
        (Code.UNAVAILABLE, "WATCH_EXPIRED", errors.WatchExpired("no", retry_after_s=0.25)),
        (Code.UNAVAILABLE, "STORE_BUSY", errors.StoreBusy("no", retry_after_s=0.25)),
        (Code.UNAVAILABLE, "STORE_TIMEOUT", errors.StoreTimeout("no", retry_after_s=0.25)),
    )
}


def _leaves(base: type[errors.StagecastError]) -> set[type[errors.StagecastError]]:
    below = {leaf for child in base.__subclasses__() for leaf in _leaves(child)}
    return below | ({base} if "reason" in vars(base) else set())


def test_every_error_that_a_client_may_see_is_in_the_table() -> None:
    never_sent = {errors.StartError, errors.Unavailable, errors.TimedOut, errors.CallFailed}
    never_sent |= {errors.Stopped, errors.NotDelivered}
    assert _leaves(errors.StagecastError) - never_sent == TABLE.keys()


@pytest.mark.parametrize("error_class", TABLE, ids=lambda error_class: error_class.__name__)
def test_error_has_the_code_and_the_details_of_the_table(
    error_class: type[errors.StagecastError],
) -> None:
    code, reason, example = TABLE[error_class]
    status = status_of(example)
    assert status.code == code.value[0]
    assert status.message == str(example)
    kinds = [detail.TypeName().removeprefix("google.rpc.") for detail in status.details]
    expected = ["ErrorInfo"]
    expected += ["BadRequest"] if issubclass(error_class, errors.InvalidError) else []
    expected += ["RetryInfo"] if isinstance(example, errors.RetryableError) else []
    assert kinds == expected
    assert error_class.reason == reason


async def test_bad_field_is_named_with_its_path_and_its_rule(calls: Calls) -> None:
    await calls.create("a")
    refusal = await refused(calls.report(failure("a"), failure("a", "lower case")))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert refusal.reason == "FIELD_INVALID"
    assert refusal.domain == DOMAIN == "stagecast"
    assert refusal.metadata["field"] == "reports[1].error.reason"
    [(field, rule)] = refusal.fields.items()
    assert field == "reports[1].error.reason"
    assert rule == "must be 1 to 64 characters of A-Z 0-9 _, beginning with a letter"
    assert refusal.message == f"{field}: {rule}"
    assert refusal.retry_after_s is None


async def test_malformed_resume_token_is_invalid(calls: Calls) -> None:
    await calls.create("a")
    for token in ("nonsense", "§", "A" * 10_000, (await calls.token())[:-1]):
        refusal = await refused(calls.watch(resume_token=token))
        assert refusal.code is Code.INVALID_ARGUMENT
        assert refusal.reason == "TOKEN_INVALID"
        assert refusal.domain == "stagecast"


async def test_resume_token_of_another_batch_is_invalid(calls: Calls) -> None:
    await calls.create("a")
    await calls.create("a", batch_id="other")
    refusal = await refused(calls.watch(resume_token=await calls.token(), batch_id="other"))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert refusal.reason == "TOKEN_INVALID"
    assert refusal.metadata == {
        "field": "resume_token",
        "dataset_id": calls.dataset_id,
        "batch_id": "other",
    }


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("forged", [b"\x00" * 8, b"\x7f" + b"\xff" * 7, b"\x80" * 8, b"\xff" * 8])
async def test_forged_resume_token_never_breaks_the_server(
    calls: Calls, number: str, forged: bytes
) -> None:
    """Tokens are not signed: any number in them may have any value."""
    await calls.create("a")
    await calls.report(counters("a", 1, 2), stage("a", r.STAGE_COMPLETED))
    real = tokens._unpack(await calls.token())
    assert real is not None
    offset = 8 + 8 * NUMBERS.index(number)
    token = tokens._pack(real[:offset] + forged + real[offset + 8 :])
    try:
        messages = await calls.watch(resume_token=token)
    except aio.AioRpcError as error:
        assert refusal_of(error).reason == "TOKEN_INVALID"  # noqa: PT017 - one of two good answers
    else:
        # A possible `progress_seq` is accepted: it affects counters only.
        accepted = number == "progress_seq" and forged[0] != 0x7F
        assert messages[0].HasField("snapshot") == (not accepted)
        assert messages[-1].batch == await calls.batch()


async def test_expired_token_is_out_of_range_if_asked_to_fail(calls: Calls, config: Config) -> None:
    await calls.create("a")
    token = await calls.token()
    await calls.report(stage("a", r.STAGE_COMPLETED))
    execute(config.db, "DELETE FROM transitions WHERE revision <= 3")
    refusal = await refused(calls.watch(resume_token=token, fail_on_expired_token=True))
    assert refusal.code is Code.OUT_OF_RANGE
    assert refusal.reason == "TOKEN_EXPIRED"
    assert refusal.metadata == {
        "dataset_id": calls.dataset_id,
        "batch_id": BATCH,
        "revision": "3",
    }


async def test_token_of_another_history_is_out_of_range_if_asked_to_fail(
    calls: Calls, config: Config
) -> None:
    await calls.create("a")
    token = await calls.token()
    await calls.report(stage("a", r.STAGE_COMPLETED))
    execute(config.db, "UPDATE transitions SET write_id = write_id + 1 WHERE revision = 3")
    refusal = await refused(calls.watch(resume_token=token, fail_on_expired_token=True))
    assert refusal.code is Code.OUT_OF_RANGE
    assert refusal.reason == "HISTORY_CHANGED"


async def test_watch_of_a_deleted_batch_ends_with_batch_deleted(
    calls: Calls, config: Config
) -> None:
    await calls.create("a")
    request = ss.WatchBatchRequest(dataset_id=calls.dataset_id, batch_id=BATCH)
    watch = calls.client.status.WatchBatch(request, timeout=60)
    assert (await read(watch)).snapshot.complete
    for table in ("transitions", "documents", "batches"):
        execute(config.db, f"DELETE FROM {table}")  # noqa: S608 - our own
    refusal = await refused(watch.read())
    assert refusal.code is Code.NOT_FOUND
    assert refusal.reason == "BATCH_DELETED"
    assert refusal.metadata == {"dataset_id": calls.dataset_id, "batch_id": BATCH}


async def test_watch_at_its_maximum_lifetime_gets_a_retry_delay(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    brief = dataclasses.replace(config, watch_life_s=0.05)
    async with App(brief, clock=clock) as app, Stubs(app.grpc_address) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a")
        refusal = await refused(calls.watch())
    assert refusal.code is Code.UNAVAILABLE
    assert refusal.reason == "WATCH_EXPIRED"
    assert refusal.retry_after_s is not None


async def test_watch_of_a_draining_server_gets_a_retry_delay(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        app = App(config, clock=clock)
        await app.__aenter__()
        client = await stack.enter_async_context(Stubs(app.grpc_address))
        await Calls(client, dataset_id).create("a")
        request = ss.WatchBatchRequest(dataset_id=dataset_id, batch_id=BATCH)
        watch = client.status.WatchBatch(request, timeout=60)
        assert (await read(watch)).snapshot.complete
        _, refusal = await asyncio.gather(app.__aexit__(), refused(watch.read()))
    assert refusal.code is Code.UNAVAILABLE
    assert refusal.reason == "DRAINING"
    assert refusal.retry_after_s is not None


@contextlib.asynccontextmanager
async def _locked(db_path: Path) -> AsyncIterator[None]:
    """Hold the write lock of a file as another process would."""
    with contextlib.closing(sqlite3.connect(db_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_busy_store_is_unavailable_with_a_retry_delay(
    config: Config, clock: Clock, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_connection, "BUSY_TIMEOUT_MS", 20)
    async with App(config, clock=clock) as app, Stubs(app.grpc_address) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a", more_documents_follow=True)
        before = contents(config.db)
        async with _locked(config.db):
            refusals = await asyncio.gather(
                refused(calls.create("a", batch_id="")),
                refused(calls.add("b")),
                refused(calls.seal()),
                refused(calls.start("a")),
                refused(calls.report(counters("a", 1))),
            )
            assert (await calls.batch()).revision == 2, "reads continue"
        for refusal in refusals:
            assert refusal.code is Code.UNAVAILABLE
            assert refusal.reason == "STORE_BUSY"
            assert refusal.domain == "stagecast"
            assert refusal.retry_after_s == 1.0
        assert contents(config.db) == before
        assert (await calls.seal()).sealed, "writes continue after the lock"


@pytest.fixture
async def broken(calls: Calls, config: Config) -> Calls:
    """A batch `b1` with a corrupt row, which is encoded when it is read."""
    await calls.create("a", "valid", labels={"secret": "hunter2"})
    execute(
        config.db,
        "UPDATE documents SET labels = '{hunter2', encoded_identity = NULL WHERE document_id = 'a'",
    )
    return calls


async def test_bug_in_a_read_is_answered_in_one_line_and_logged_in_full(
    broken: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = await refused(broken.document("a"))
    _check_bug(refusal.code, refusal.message, caplog, "StatusService/GetDocument")
    assert (await broken.document("valid")).document_id == "valid"


async def test_bug_in_a_write_is_answered_in_one_line_and_logged_in_full(
    broken: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = await refused(broken.report(stage("a", r.STAGE_PARSING)))
    _check_bug(refusal.code, refusal.message, caplog, "ReportService/Report")
    assert await broken.outcomes(stage("valid", r.STAGE_PARSING)) == ["APPLIED"]


async def test_bug_in_a_stream_is_answered_in_one_line_and_logged_in_full(
    broken: Calls, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = await refused(broken.watch())
    _check_bug(refusal.code, refusal.message, caplog, "StatusService/WatchBatch")


def _check_bug(
    code: grpc.StatusCode, message: str, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    assert code is Code.INTERNAL
    assert message == "internal error; see the log of the server"
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert method in record.getMessage()
    assert record.exc_info, "with its traceback"
    assert "JSONDecodeError" in (caplog.text)


async def test_failed_write_does_not_affect_concurrent_writes(broken: Calls) -> None:
    await broken.create(*(f"doc-{number}" for number in range(40)), batch_id="b2")

    async def report(number: int) -> str:
        try:
            if number % 8 == 0:
                await broken.report(stage("a", r.STAGE_PARSING))
            else:
                await broken.report(stage(f"doc-{number}", r.STAGE_PARSING), batch_id="b2")
        except aio.AioRpcError as error:
            return error.code().name
        return "OK"

    answers = await asyncio.gather(*(report(number) for number in range(40)))
    assert answers == (["INTERNAL"] + ["OK"] * 7) * 5


async def test_message_over_four_mebibytes_is_resource_exhausted(
    calls: Calls, config: Config
) -> None:
    await calls.create("a", more_documents_follow=True)
    before = contents(config.db)
    large = {f"{number:064}": "文" * 256 for number in range(32)}
    refusal = await refused(calls.add(*(new(str(number), labels=large) for number in range(200))))
    assert refusal.code is Code.RESOURCE_EXHAUSTED
    assert contents(config.db) == before
    response = await calls.add(*(new(str(number), labels=large) for number in range(100)))
    assert len(response.document_ids) == 100


async def test_longest_ids_fit_the_details_of_an_error(calls: Calls) -> None:
    """Each character takes twelve bytes in a status line, and metadata has a limit."""
    longest = "🗎" * 256
    batch_id = "b" * 128
    await calls.create(longest, batch_id=batch_id)
    await calls.report(failure(longest), batch_id=batch_id)
    refusal = await refused(calls.document("文" + longest[1:], batch_id=batch_id))
    assert refusal.reason == "DOCUMENT_NOT_FOUND"
    refusal = await refused(calls.report(stage(longest, r.STAGE_COMPLETED), batch_id=batch_id))
    assert refusal.reason == "ILLEGAL_TRANSITION"
    assert refusal.metadata["document_id"] == longest
    refusal = await refused(calls.create(longest, longest, batch_id=""))
    assert refusal.reason == "FIELD_INVALID"
    assert longest in refusal.message
