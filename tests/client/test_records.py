"""Records have the fields and values of the protos, and read well."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

import stagecast
from stagecast.client import conversion
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.client.as_messages import as_message

CONVERSIONS: tuple[tuple[Any, type[Message], type], ...] = (
    (conversion.document_of, r.Document, stagecast.Document),
    (conversion.batch_of, r.Batch, stagecast.Batch),
    (conversion.dataset_of, r.Dataset, stagecast.Dataset),
    (conversion.transition_of, r.Transition, stagecast.Transition),
    (conversion.progress_of, r.Progress, stagecast.Progress),
    (conversion.result_of, pb.ReportResult, stagecast.ReportResult),
)
ENUMS: tuple[tuple[type[StrEnum], Any], ...] = (
    (stagecast.Stage, r.Stage),
    (stagecast.DocumentState, r.DocumentState),
    (stagecast.BatchState, r.BatchState),
    (stagecast.DatasetState, r.DatasetState),
    (stagecast.TransitionKind, r.TransitionKind),
    (stagecast.SnapshotReason, s.SnapshotReason),
    (stagecast.ReportOutcome, pb.ReportOutcome),
    (stagecast.WorkerOrder, pb.WorkerOrder),
)


def _named(value: Any) -> str:
    return getattr(value, "__name__", "")


def filled(kind: type[Message], seed: int = 1) -> Any:
    """Return a message with a value in every field."""
    message: Any = kind()
    fields: Any = kind.DESCRIPTOR.fields
    for number, field in enumerate(fields, seed):
        if field.message_type is None:
            setattr(message, field.name, _value(field, number))
        elif field.message_type.GetOptions().map_entry:
            getattr(message, field.name)["key"] = f"value {number}"
        elif field.message_type.full_name == "google.protobuf.Timestamp":
            getattr(message, field.name).FromMicroseconds(1_800_000_000_000_000 + number)
        elif field.message_type.full_name == "google.protobuf.Duration":
            getattr(message, field.name).FromMilliseconds(1_500 * number)
        else:
            part = getattr(message, field.name)
            part.CopyFrom(filled(type(part), number))
    return message


def _value(field: FieldDescriptor, number: int) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return True
    return f"text {number}" if field.cpp_type == FieldDescriptor.CPPTYPE_STRING else number


@pytest.mark.parametrize(("convert", "kind", "record"), CONVERSIONS, ids=_named)
def test_record_has_every_field_of_its_message(
    convert: Any, kind: type[Message], record: type
) -> None:
    assert dataclasses.is_dataclass(record)
    names = [field.name for field in dataclasses.fields(record)]
    assert names == [field.name for field in kind.DESCRIPTOR.fields]
    message = filled(kind)
    converted = convert(message)
    assert type(converted) is record
    assert as_message(converted, kind) == message


@pytest.mark.parametrize(("convert", "kind", "record"), CONVERSIONS, ids=_named)
def test_absent_fields_are_none(convert: Any, kind: type[Message], record: type) -> None:
    converted = convert(kind())
    for field in dataclasses.fields(record):
        if "None" in str(field.type):
            assert getattr(converted, field.name) is None


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (stagecast.DocumentError, r.DocumentError),
        (stagecast.DocumentCounts, r.DocumentCounts),
        (stagecast.NewDocument, pb.NewDocument),
        (stagecast.DocumentReport, pb.DocumentReport),
    ],
)
def test_parts_and_requests_have_the_fields_of_their_messages(
    record: Any, kind: type[Message]
) -> None:
    names = [field.name for field in dataclasses.fields(record)]
    assert names == [field.name for field in kind.DESCRIPTOR.fields]


@pytest.mark.parametrize(("enum", "proto"), ENUMS, ids=_named)
def test_enum_has_the_names_of_the_proto_without_their_prefix(
    enum: type[StrEnum], proto: Any
) -> None:
    first, *names = proto.keys()
    prefix = first.removesuffix("UNSPECIFIED")
    assert [member.value for member in enum] == [
        *(name.removeprefix(prefix) for name in names),
        "UNKNOWN",
    ]


def test_value_of_a_newer_server_is_unknown() -> None:
    message = r.Document()
    message.ParseFromString(b"\x30\x63\x38\x63")  # 99 as state and stage
    document = conversion.document_of(message)
    assert document.state is stagecast.DocumentState.UNKNOWN
    assert document.stage is stagecast.Stage.UNKNOWN
    assert not document.state.terminal


def test_times_are_aware_and_exact_and_spans_are_timedeltas() -> None:
    message = r.Batch()
    message.create_time.FromJsonString("2026-11-29T12:30:00.123456Z")
    message.stall_after.FromMilliseconds(1_500)
    batch = conversion.batch_of(message)
    assert batch.create_time == datetime(2026, 11, 29, 12, 30, 0, 123456, tzinfo=UTC)
    assert batch.create_time.utcoffset() == timedelta(0)
    assert batch.stall_after == timedelta(seconds=1.5)
    assert batch.fail_after == timedelta(0)


@pytest.mark.parametrize(("convert", "kind", "record"), CONVERSIONS, ids=_named)
def test_record_is_frozen_hashable_and_can_be_pickled_and_copied(
    convert: Any, kind: type[Message], record: type
) -> None:
    converted = convert(filled(kind))
    assert pickle.loads(pickle.dumps(converted)) == converted  # noqa: S301 - our own
    assert copy.deepcopy(converted) == converted
    assert len({converted, convert(filled(kind))}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(converted, dataclasses.fields(record)[0].name, None)


def document(**changes: Any) -> stagecast.Document:
    """Return a document that waits."""
    message = r.Document(
        document_id="a.md",
        state=r.DOCUMENT_STATE_PENDING,
        stage=r.STAGE_WAITING,
        attempt=1,
    )
    return dataclasses.replace(conversion.document_of(message), **changes)


FAILED = {
    "state": stagecast.DocumentState.FAILED,
    "error": stagecast.DocumentError(reason="BAD_PAGE", message="page 3\n\x1b[31mis blank"),
}


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (document(), "a.md: PENDING in WAITING"),
        (document(stalled=True), "a.md: PENDING in WAITING, stalled"),
        (
            document(attempt=2, progress=stagecast.Progress(completed_segments=3)),
            "a.md: PENDING in WAITING, 3 segments, attempt 2",
        ),
        (document(**FAILED), r"a.md: FAILED in WAITING, BAD_PAGE: page 3 \x1b[31mis blank"),
        (stagecast.Progress(completed_segments=3, total_segments=12), "3/12 segments"),
        (
            stagecast.DocumentProgress(
                document_id="a.md", attempt=1, completed_segments=3, total_segments=12
            ),
            "a.md: 3/12 segments",
        ),
        (
            stagecast.Progress(step=stagecast.Step(name="pages", completed=3, total=7)),
            "pages 3/7",
        ),
        (
            document(
                progress=stagecast.Progress(
                    total_segments=12, step=stagecast.Step(name="tables", completed=1)
                )
            ),
            "a.md: PENDING in WAITING, 0/12 segments, tables 1",
        ),
        (stagecast.DocumentError(reason="BAD_PAGE"), "BAD_PAGE"),
        (stagecast.DatasetRemoved(dataset_id="d"), "dataset d: removed"),
    ],
)
def test_record_reads_as_a_line(record: Any, line: str) -> None:
    assert str(record) == line


def test_batch_dataset_and_events_read_as_lines() -> None:
    counts = r.DocumentCounts(total=3, pending=1, succeeded=2)
    message = r.Batch(batch_id="first", state=r.BATCH_STATE_RUNNING, counts=counts, revision=7)
    batch = conversion.batch_of(message)
    assert str(batch) == "batch first: RUNNING, 1 pending, 2 succeeded; more may follow"
    sealed = dataclasses.replace(batch, sealed=True)
    assert str(sealed) == "batch first: RUNNING, 1 pending, 2 succeeded"
    dataset = r.Dataset(dataset_id="d", state=r.DATASET_STATE_RUNNING, batches=1, open_batches=1)
    assert (
        str(conversion.dataset_of(dataset)) == "dataset d: RUNNING, 1 batch, 1 open; no documents"
    )
    dataset.display_name = "Handbook"
    assert str(conversion.dataset_of(dataset)).startswith("dataset d (Handbook): RUNNING")
    snapshot = stagecast.Snapshot(
        reason=stagecast.SnapshotReason.INITIAL, documents=(), batch=sealed, revision=7
    )
    assert str(snapshot) == f"7 snapshot (INITIAL) of {sealed}"
    sealing = r.Transition(revision=4, kind=r.TRANSITION_KIND_SEALED)
    assert str(conversion.transition_of(sealing)) == "4 SEALED"
    result = stagecast.ControlResult(batch=sealed, changed_documents=1)
    assert str(result) == f"1 document changed; {sealed}"
    report = pb.ReportResult(document_id="a", outcome=pb.REPORT_OUTCOME_APPLIED, revision=9)
    assert str(conversion.result_of(report)) == "a: APPLIED, revision 9"
    report.outcome = pb.REPORT_OUTCOME_REFUSED
    report.refusal.CopyFrom(pb.ReportRefusal(reason="STALE_ATTEMPT", message="attempt 1 is stale"))
    assert str(conversion.result_of(report)) == "a: REFUSED, STALE_ATTEMPT: attempt 1 is stale"


def test_counters_of_a_watch_are_progress() -> None:
    """So `isinstance(event, stagecast.Progress)` finds them."""
    assert issubclass(stagecast.DocumentProgress, stagecast.Progress)


@pytest.mark.parametrize("state", stagecast.DocumentState)
def test_document_is_terminal_as_in_the_model(state: stagecast.DocumentState) -> None:
    assert state.terminal == (state in ("SUCCEEDED", "FAILED", "STOPPED"))


@pytest.mark.parametrize("state", stagecast.BatchState)
def test_batch_is_terminal_as_in_the_model(state: stagecast.BatchState) -> None:
    ended = ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "STOPPED")
    assert state.terminal == (state in ended)
