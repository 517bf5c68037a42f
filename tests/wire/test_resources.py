"""Resources as protobuf: enums have the numbers of the protos, missing values are absent."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast import model, wire
from stagecast.model import DocumentState, Progress, Stage, TransitionKind
from stagecast.v1 import report_service_pb2, resources_pb2, status_service_pb2
from stagecast.wire import resources
from tests import builders
from tests.messages import to_transition

ENUMS: list[tuple[type[IntEnum], Any, str]] = [
    (model.Stage, resources_pb2.Stage, "STAGE"),
    (model.DocumentState, resources_pb2.DocumentState, "DOCUMENT_STATE"),
    (model.BatchState, resources_pb2.BatchState, "BATCH_STATE"),
    (model.DatasetState, resources_pb2.DatasetState, "DATASET_STATE"),
    (model.TransitionKind, resources_pb2.TransitionKind, "TRANSITION_KIND"),
    (model.SnapshotReason, status_service_pb2.SnapshotReason, "SNAPSHOT_REASON"),
    (model.ReportOutcome, report_service_pb2.ReportOutcome, "REPORT_OUTCOME"),
]


@pytest.mark.parametrize(("enum", "proto", "prefix"), ENUMS, ids=lambda each: str(each)[:30])
def test_enum_has_the_names_and_numbers_of_the_proto(
    enum: type[IntEnum], proto: Any, prefix: str
) -> None:
    named = {f"{prefix}_{member.name}": member.value for member in enum}
    assert named | {f"{prefix}_UNSPECIFIED": 0} == dict(proto.items())


@pytest.mark.parametrize("microseconds", [0, 1, 999_999, 1_790_000_000_123_456, -1, -(10**15)])
def test_time_is_exact_to_the_microsecond(microseconds: int) -> None:
    timestamp = resources.to_timestamp(microseconds)
    assert timestamp is not None
    assert timestamp.ToMicroseconds() == microseconds
    assert 0 <= timestamp.nanos < 10**9


def test_missing_time_is_absent() -> None:
    assert resources.to_timestamp(None) is None
    document = wire.to_document(builders.document())
    absent: tuple[Any, ...] = (
        *("processing_start_time", "parsing_complete_time", "cleaning_complete_time"),
        *("splitting_complete_time", "complete_time", "pause_time", "stop_time", "error"),
    )
    assert not any(document.HasField(name) for name in absent)
    assert not wire.to_batch(builders.batch()).HasField("end_time")


def test_unknown_total_is_absent_and_zero_is_not() -> None:
    assert not resources.to_progress(Progress(completed_segments=3)).HasField("total_segments")
    assert resources.to_progress(Progress(total_segments=0)).HasField("total_segments")


def test_document_has_every_field() -> None:
    everything = builders.document_in(
        DocumentState.FAILED,
        Stage.INDEXING,
        display_name="A",
        labels={"k": "v"},
        attempt=3,
        stalled=True,
        progress=Progress(completed_segments=4, total_segments=9),
        completed_at=10_000,
        paused_at=11_000,
    )
    document = wire.to_document(everything)
    assert {field.name for field, _ in document.ListFields()} == set(
        resources_pb2.Document.DESCRIPTOR.fields_by_name
    )
    assert document.processing_start_time == Timestamp(nanos=2_000_000)
    assert document.parsing_complete_time == Timestamp(nanos=3_000_000)
    assert document.cleaning_complete_time == Timestamp(nanos=4_000_000)
    assert document.splitting_complete_time == Timestamp(nanos=5_000_000)
    assert document.stop_time == Timestamp(nanos=9_000_000)
    assert document.complete_time == Timestamp(nanos=10_000_000)
    assert document.pause_time == Timestamp(nanos=11_000_000)


def test_batch_has_its_timeouts_even_if_zero() -> None:
    batch = wire.to_batch(builders.batch(stall_after_us=0, fail_after_us=1_500_000))
    assert batch.HasField("stall_after")
    assert batch.stall_after == Duration()
    assert batch.fail_after == Duration(seconds=1, nanos=500_000_000)


def test_transition_of_the_batch_has_no_document() -> None:
    transition = to_transition(builders.transition(kind=TransitionKind.SEALED, revision=2))
    assert not transition.HasField("document")
    assert transition.previous_state == resources_pb2.DOCUMENT_STATE_UNSPECIFIED
    assert transition.previous_stage == resources_pb2.STAGE_UNSPECIFIED
    assert not transition.HasField("event_time")
    assert transition.commit_time == Timestamp(nanos=1_000_000)
