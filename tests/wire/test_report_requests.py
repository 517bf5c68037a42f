"""Omitted fields of a request get their defaults, others are converted unchanged."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast import wire
from stagecast.errors import FieldInvalid
from stagecast.model import (
    DocumentError,
    InvalidReport,
    NewBatch,
    NewDocument,
    Progress,
    Report,
    Stage,
    Step,
)
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from tests.builders import BATCH_ID, DATASET_ID

NAMES: dict[str, Any] = {"dataset_id": DATASET_ID, "batch_id": BATCH_ID}


def test_empty_batch_request_gets_the_defaults() -> None:
    assert wire.new_batch(rs.CreateBatchRequest(dataset_id=DATASET_ID)) == NewBatch(
        dataset_id=DATASET_ID,
        dataset_name="",
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
        dataset_name="Händbuch",
    )
    assert wire.new_batch(request) == NewBatch(
        **NAMES,
        dataset_name="Händbuch",
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
        progress=r.Progress(
            completed_segments=2,
            total_segments=2,
            step=r.Step(name="pages", completed=3, total=4),
        ),
        error=r.DocumentError(reason="X", message="m"),
        event_time=Timestamp(seconds=1, nanos=1_000),
    )
    assert report == Report(
        document_id="a",
        attempt=3,
        stage=Stage.INDEXING,
        progress=Progress(
            completed_segments=2, total_segments=2, step=Step(name="pages", completed=3, total=4)
        ),
        error=DocumentError(reason="X", message="m"),
        event_at=1_000_001,
    )


def test_total_of_zero_differs_from_no_total() -> None:
    assert _report(progress=r.Progress(total_segments=0)).progress == Progress(total_segments=0)
    with pytest.raises(FieldInvalid, match="1 is more than the total of 0"):
        _report(progress=r.Progress(completed_segments=1, total_segments=0))


def _step(**fields: Any) -> Step | None:
    progress = _report(progress=r.Progress(step=r.Step(**fields))).progress
    return progress.step if progress else None


@pytest.mark.parametrize(
    ("fields", "step"),
    [
        ({"name": "p"}, Step(name="p")),
        ({"name": "ö" * 64, "total": 0}, Step(name="ö" * 64, total=0)),
        ({"name": "p", "completed": 2**31 - 1}, Step(name="p", completed=2**31 - 1)),
        ({"name": "p", "completed": 3, "total": 3}, Step(name="p", completed=3, total=3)),
    ],
)
def test_step_is_converted(fields: dict[str, Any], step: Step) -> None:
    assert _step(**fields) == step


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ({}, "name", "must have 1 to 64 characters, has 0"),
        ({"name": "x" * 65}, "name", "must have 1 to 64 characters, has 65"),
        ({"name": "a\nb"}, "name", "must have printable characters only"),
        ({"name": "p", "completed": -1}, "completed", "must be 0 to 2147483647"),
        ({"name": "p", "completed": 2**31}, "completed", "must be 0 to 2147483647"),
        ({"name": "p", "total": -1}, "total", "must be 0 to 2147483647"),
        ({"name": "p", "total": 2**31}, "total", "must be 0 to 2147483647"),
        ({"name": "p", "completed": 4, "total": 3}, "completed", "4 is more than the total of 3"),
    ],
)
def test_invalid_step_is_refused_with_its_path(
    fields: dict[str, Any], field: str, rule: str
) -> None:
    with pytest.raises(FieldInvalid) as caught:
        _step(**fields)
    assert (caught.value.field, caught.value.rule) == (f"reports[0].progress.step.{field}", rule)


@pytest.mark.parametrize(("length", "valid"), [(256, True), (257, False)])
def test_name_of_a_dataset_has_at_most_256_characters(length: int, valid: bool) -> None:
    request = rs.CreateBatchRequest(**NAMES, dataset_name="ö" * length)
    if valid:
        assert wire.new_batch(request).dataset_name == "ö" * length
        return
    with pytest.raises(FieldInvalid, match="dataset_name: must have 0 to 256 characters, has 257"):
        wire.new_batch(request)


# With `allow_partial`.


def _partial(*reports: rs.DocumentReport) -> list[Report | InvalidReport]:
    return wire.partial_reports(rs.ReportRequest(**NAMES, reports=reports, allow_partial=True))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, ""),
        ({"attempt": -1, "stage": r.STAGE_PARSING}, "attempt"),
        ({"stage": 99}, "stage"),
        ({"progress": r.Progress(completed_segments=-1)}, "progress.completed_segments"),
        ({"progress": r.Progress(step=r.Step())}, "progress.step.name"),
        ({"error": r.DocumentError(reason="lower")}, "error.reason"),
        ({"stage": r.STAGE_COMPLETED, "error": r.DocumentError(reason="X")}, "error"),
        ({"stage": r.STAGE_PARSING, "event_time": Timestamp(nanos=-1)}, "event_time"),
    ],
)
def test_invalid_report_is_found_alone(fields: dict[str, Any], field: str) -> None:
    valid = rs.DocumentReport(document_id="a", stage=r.STAGE_PARSING)
    one, invalid, two = _partial(valid, rs.DocumentReport(document_id="b", **fields), valid)
    assert one == two == Report(document_id="a", stage=Stage.PARSING)
    assert isinstance(invalid, InvalidReport)
    assert (invalid.document_id, invalid.error.field) == ("b", field)


@pytest.mark.parametrize("document_id", ["", "x" * 257, "a\nb"])
def test_invalid_id_is_not_repeated(document_id: str) -> None:
    [invalid] = _partial(rs.DocumentReport(document_id=document_id, stage=r.STAGE_PARSING))
    assert isinstance(invalid, InvalidReport)
    assert (invalid.document_id, invalid.error.field) == ("", "document_id")


@pytest.mark.parametrize("number", [0, 1_001])
def test_number_of_partial_reports_is_limited(number: int) -> None:
    with pytest.raises(FieldInvalid, match="reports: must have 1 to 1000 entries"):
        _partial(*[rs.DocumentReport(document_id="a", stage=r.STAGE_PARSING)] * number)
