"""Omitted fields of a request get their defaults, others are converted unchanged."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast import wire
from stagecast.errors import FieldInvalid
from stagecast.model import DocumentError, NewBatch, NewDocument, Progress, Report, Stage
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from tests.builders import BATCH_ID, DATASET_ID

NAMES: dict[str, Any] = {"dataset_id": DATASET_ID, "batch_id": BATCH_ID}


def test_empty_batch_request_gets_the_defaults() -> None:
    assert wire.new_batch(rs.CreateBatchRequest(dataset_id=DATASET_ID)) == NewBatch(
        dataset_id=DATASET_ID,
        batch_id="",
        documents=[],
        labels={},
        more_documents_follow=False,
        start_after_us=0,
        stall_after_us=300_000_000,
        fail_after_us=0,
        seal_after_us=0,
        request_id="",
    )


def test_batch_request_with_all_fields_is_converted() -> None:
    request = rs.CreateBatchRequest(
        **NAMES,
        documents=[rs.NewDocument(document_id="a", display_name="A", labels={"k": "v"})],
        labels={"l": "w"},
        more_documents_follow=True,
        stall_after=Duration(),
        fail_after=Duration(seconds=2, nanos=1_000),
        start_after=Duration(seconds=3),
        seal_after=Duration(seconds=4),
        request_id="r1",
    )
    assert wire.new_batch(request) == NewBatch(
        **NAMES,
        documents=[NewDocument(document_id="a", display_name="A", labels={"k": "v"})],
        labels={"l": "w"},
        more_documents_follow=True,
        start_after_us=3_000_000,
        stall_after_us=0,
        fail_after_us=2_000_001,
        seal_after_us=4_000_000,
        request_id="r1",
    )


def test_ids_of_a_call_have_at_most_3_mib() -> None:
    ids = [f"{number:04}" + "🗎" * 249 for number in range(3_145)] + ["🗎" * 182]
    assert sum(len(each.encode()) for each in ids) == 3 << 20
    documents = [rs.NewDocument(document_id=each) for each in ids]
    assert len(wire.new_documents(documents)) == len(ids)
    with pytest.raises(FieldInvalid, match="ids must have at most 3145728 bytes in all"):
        wire.new_documents([*documents, rs.NewDocument(document_id="x")])


def _report(**fields: Any) -> Report:
    value = rs.DocumentReport(document_id="a", **fields)
    [report] = wire.reports(rs.ReportRequest(**NAMES, reports=[value]))
    return report


def test_omitted_fields_of_a_report_are_none() -> None:
    assert _report(stage=r.STAGE_PARSING) == Report(document_id="a", stage=Stage.PARSING)
    assert _report(progress=r.Progress()) == Report(document_id="a", progress=Progress())
    assert _report(error=r.DocumentError(reason="X")) == Report(
        document_id="a", error=DocumentError(reason="X")
    )


def test_report_with_all_fields_is_converted() -> None:
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


def test_total_of_zero_differs_from_no_total() -> None:
    assert _report(progress=r.Progress(total_segments=0)).progress == Progress(total_segments=0)
    with pytest.raises(FieldInvalid, match="1 is more than the total of 0"):
        _report(progress=r.Progress(completed_segments=1, total_segments=0))
