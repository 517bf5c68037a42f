"""Requests as the service is asked: what was left out gets its default, all else stays as it is."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast import wire
from stagecast.errors import FieldInvalid
from stagecast.model import (
    DocumentError,
    DocumentQuery,
    DocumentState,
    NewBatch,
    NewDocument,
    Page,
    Progress,
    Report,
    Stage,
    WatchRequest,
)
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.builders import BATCH_ID, DATASET_ID

NAMES: dict[str, Any] = {"dataset_id": DATASET_ID, "batch_id": BATCH_ID}


def test_batch_that_says_nothing_gets_the_defaults() -> None:
    assert wire.new_batch(rs.CreateBatchRequest(dataset_id=DATASET_ID)) == NewBatch(
        dataset_id=DATASET_ID,
        batch_id="",
        documents=[],
        labels={},
        more_documents_follow=False,
        stall_after_us=300_000_000,
        fail_after_us=0,
        request_id="",
    )


def test_batch_that_says_everything_is_taken_at_its_word() -> None:
    request = rs.CreateBatchRequest(
        **NAMES,
        documents=[rs.NewDocument(document_id="a", display_name="A", labels={"k": "v"})],
        labels={"l": "w"},
        more_documents_follow=True,
        stall_after=Duration(),
        fail_after=Duration(seconds=2, nanos=1_000),
        request_id="r1",
    )
    assert wire.new_batch(request) == NewBatch(
        **NAMES,
        documents=[NewDocument(document_id="a", display_name="A", labels={"k": "v"})],
        labels={"l": "w"},
        more_documents_follow=True,
        stall_after_us=0,
        fail_after_us=2_000_001,
        request_id="r1",
    )


def test_page_that_says_nothing_is_the_first_hundred_of_all() -> None:
    assert wire.document_query(ss.ListDocumentsRequest(**NAMES)) == DocumentQuery(
        **NAMES, states=frozenset(), stages=frozenset(), page=Page(size=100, token="")
    )


def test_filters_are_sets() -> None:
    query = wire.document_query(
        ss.ListDocumentsRequest(**NAMES, states=[5, 1, 5], stages=[r.STAGE_INDEXING])
    )
    assert query.states == {DocumentState.FAILED, DocumentState.PENDING}
    assert query.stages == {Stage.INDEXING}


def test_watch_that_says_nothing_gets_the_defaults() -> None:
    assert wire.watch_request(ss.WatchBatchRequest(**NAMES)) == WatchRequest(
        **NAMES,
        resume_token="",
        follow=False,
        heartbeat_s=15.0,
        transitions_only=False,
        fail_on_expired_token=False,
    )


def test_watch_that_says_everything_is_taken_at_its_word() -> None:
    request = ss.WatchBatchRequest(
        **NAMES,
        resume_token="any",  # noqa: S106 - no secret
        follow=True,
        heartbeat_interval=Duration(seconds=1, nanos=500_000_000),
        transitions_only=True,
        fail_on_expired_token=True,
    )
    assert wire.watch_request(request) == WatchRequest(
        **NAMES,
        resume_token="any",  # noqa: S106 - no secret
        follow=True,
        heartbeat_s=1.5,
        transitions_only=True,
        fail_on_expired_token=True,
    )


def _report(**fields: Any) -> Report:
    given = rs.DocumentReport(document_id="a", **fields)
    [report] = wire.reports(rs.ReportRequest(**NAMES, reports=[given]))
    return report


def test_report_tells_only_what_was_given() -> None:
    assert _report(stage=r.STAGE_PARSING) == Report(document_id="a", stage=Stage.PARSING)
    assert _report(progress=r.Progress()) == Report(document_id="a", progress=Progress())
    assert _report(error=r.DocumentError(reason="X")) == Report(
        document_id="a", error=DocumentError(reason="X")
    )


def test_report_of_everything_is_taken_at_its_word() -> None:
    report = _report(
        attempt=3,
        stage=r.STAGE_INDEXING,
        progress=r.Progress(completed_segments=2, total_segments=2),
        error=r.DocumentError(reason="X", message="m"),
        event_time=Timestamp(seconds=1, nanos=1_000),
    )
    assert report == Report(
        document_id="a",
        attempt=3,
        stage=Stage.INDEXING,
        progress=Progress(completed_segments=2, total_segments=2),
        error=DocumentError(reason="X", message="m"),
        event_at=1_000_001,
    )


def test_total_of_zero_is_not_the_same_as_none() -> None:
    assert _report(progress=r.Progress(total_segments=0)).progress == Progress(total_segments=0)
    with pytest.raises(FieldInvalid, match="1 is more than the total of 0"):
        _report(progress=r.Progress(completed_segments=1, total_segments=0))


def test_first_bad_field_is_the_one_that_is_told() -> None:
    request = rs.ReportRequest(dataset_id="x", batch_id="..", reports=[])
    with pytest.raises(FieldInvalid) as caught:
        wire.batch_name(request)
    assert caught.value.field == "dataset_id"
