"""A server that answers calls with INTERNAL: they are made again, but not for ever."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

import stagecast
from stagecast.client.reporting import sender
from stagecast.errors import StoreBusy
from stagecast.v1.report_service_pb2_grpc import (
    ReportServiceServicer,
    add_ReportServiceServicer_to_server,
)
from tests.client.reporting.background import until
from tests.client.reporting.pipelines import work
from tests.client.reporting.scripted_outbox import answer_of

Fails = Callable[[Any, int], bool]


class FaultyService(ReportServiceServicer):
    """Answers calls with success, or with an error.

    Args:
        fails: tells for a request, and how many of its kind there were, whether it fails.
        code: of the errors.
        retry_after_s: after how long they say to try again, if they do.

    Attributes:
        calls: how many there were, by the names of the RPCs.
    """

    def __init__(
        self, fails: Fails, code: grpc.StatusCode, *, retry_after_s: int | None = None
    ) -> None:
        self._fails = fails
        self._code = code
        self._retry_after_s = retry_after_s
        self.calls: Counter[str] = Counter()

    def _answer(self, request: Any, context: grpc.ServicerContext) -> Any:
        name = type(request).__name__.removesuffix("Request")
        self.calls[name] += 1
        if self._fails(request, self.calls[name]):
            if self._retry_after_s is not None:
                context.set_trailing_metadata((_advice(self._retry_after_s),))
            context.abort(self._code, "on purpose")
        return answer_of(request)

    CreateBatch = AddDocuments = SealBatch = StartAttempt = Report = Heartbeat = _answer


def _advice(seconds: int) -> tuple[str, bytes]:
    status = Status(code=grpc.StatusCode.UNAVAILABLE.value[0])
    status.details.add().Pack(ErrorInfo(reason=StoreBusy.reason, domain="stagecast"))
    status.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=seconds)))
    return "grpc-status-details-bin", status.SerializeToString()


@contextlib.contextmanager
def reporting_to(
    fails: Fails,
    code: grpc.StatusCode = grpc.StatusCode.INTERNAL,
    *,
    retry_after_s: int | None = None,
) -> Iterator[tuple[stagecast.Reporter, Counter[str]]]:
    """Run a faulty server, and give a reporter for it and the numbers of calls."""
    service = FaultyService(fails, code, retry_after_s=retry_after_s)
    server = grpc.server(ThreadPoolExecutor(4))
    add_ReportServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        reporter = stagecast.Reporter(f"127.0.0.1:{port}")
        yield reporter, service.calls
        reporter._engine.finish(0)
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize(
    "rpc", ["CreateBatch", "AddDocuments", "StartAttempt", "Report", "SealBatch"]
)
@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN])
def test_call_at_which_the_server_fails_is_made_again(rpc: str, code: grpc.StatusCode) -> None:
    def fails(request: Any, number: int) -> bool:
        return type(request).__name__ == f"{rpc}Request" and number <= 2

    with reporting_to(fails, code) as (reporter, calls):
        with reporter.batch("d", ["a"]) as batch:
            work(batch)
        assert batch.flush(60)
    assert str(batch.stats) == "2 delivered, 0 waiting, 0 refused, 0 dropped"
    assert calls[rpc] == 3


def test_batch_whose_opening_always_fails_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "_TRIES", 3)
    with reporting_to(lambda *_: True) as (reporter, calls):
        with reporter.batch("d", ["a"]) as batch:
            assert work(batch) == ["a"]
        assert not batch.flush(60)
    assert str(batch.stats) == "0 delivered, 0 waiting, 0 refused, 2 dropped"
    assert calls == {"CreateBatch": 3}
    [warning] = caplog.messages
    assert "failed with INTERNAL: on purpose" in warning


def test_document_at_which_the_server_fails_does_not_keep_others_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender, "_TRIES", 3)

    def fails(request: Any, _number: int) -> bool:
        return getattr(request, "document_id", "") == "bad"

    with reporting_to(fails) as (reporter, calls):
        with reporter.batch("d", ["a", "bad", "c"]) as batch:
            assert work(batch) == ["a", "bad", "c"]
        assert batch.flush(60)
    assert str(batch.stats) == "4 delivered, 0 waiting, 0 refused, 2 dropped"
    assert calls["StartAttempt"] >= 5


def test_call_that_the_server_does_not_know_is_made_once() -> None:
    with reporting_to(lambda *_: True, grpc.StatusCode.UNIMPLEMENTED) as (reporter, calls):
        with reporter.batch("d", ["a"]) as batch:
            work(batch)
        assert not batch.flush(60)
    assert calls == {"CreateBatch": 1}


def test_pause_is_as_long_as_the_server_advises() -> None:
    times: list[float] = []

    def fails(_request: Any, _number: int) -> bool:
        times.append(time.monotonic())
        return len(times) == 1

    code = grpc.StatusCode.UNAVAILABLE
    with reporting_to(fails, code, retry_after_s=1) as (reporter, _calls):
        with reporter.batch("d", ["a"]) as batch:
            work(batch)
        until(lambda: len(times) >= 2)
        first, second, *_ = times
    assert second - first >= 1


def test_exiting_process_does_not_wait_as_long_as_the_server_advises() -> None:
    calls = 0
    failed = threading.Event()

    def fails(_request: Any, _number: int) -> bool:
        nonlocal calls
        calls += 1
        failed.set()
        return calls <= 2  # also the one that the exit makes at once

    code = grpc.StatusCode.UNAVAILABLE
    with reporting_to(fails, code, retry_after_s=600) as (reporter, _calls):
        with reporter.batch("d", ["a"]) as batch:
            work(batch)
        assert failed.wait(60)
        reporter._engine.finish(time.monotonic() + 60)
    assert str(batch.stats) == "2 delivered, 0 waiting, 0 refused, 0 dropped"


def test_pauses_are_short_again_after_a_success() -> None:
    def fails(_request: Any, number: int) -> bool:
        return number <= 3

    with reporting_to(fails) as (reporter, _calls):
        with reporter.batch("d", ["a"]) as batch:
            work(batch)
        assert batch.flush(60)
        assert reporter._engine._sender._backoff.next_pause_s(None) <= 0.15
