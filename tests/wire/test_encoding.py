"""The pieces that the store keeps, once joined, are the messages of `resources`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from google.protobuf.descriptor import Descriptor
from hypothesis import example, given
from hypothesis import strategies as st

from stagecast import wire
from stagecast.model import (
    Document,
    DocumentError,
    DocumentState,
    EncodedDocument,
    EncodedTransition,
    Progress,
    SnapshotPart,
    SnapshotReason,
    Stage,
    Step,
    Transition,
    TransitionKind,
    document_size,
    transition_size,
)
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from stagecast.wire.encoding import varint
from tests import builders
from tests.builders import ENCODER
from tests.messages import to_transition

# The fields of which the version was made. If this fails, raise `StoreEncoder.version` as well, and
# make the indexes of rows to encode anew in a migration.
VERSION = 2
FIELDS = {
    "Document": (
        "1 dataset_id 2 batch_id 3 document_id 4 display_name 5 labels 6 state 7 stage 8 attempt "
        "9 worker 10 stalled 11 progress 12 error 13 revision 14 create_time 15 update_time "
        "16 processing_start_time 17 parsing_complete_time 18 cleaning_complete_time "
        "19 splitting_complete_time 20 complete_time 21 pause_time 22 stop_time"
    ),
    "Progress": "1 completed_segments 2 total_segments 3 step",
    "Step": "1 name 2 completed 3 total",
    "DocumentError": "1 reason 2 message",
    "Transition": (
        "1 revision 2 kind 3 document 4 previous_state 5 previous_stage 6 event_time 7 commit_time"
    ),
}

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
_time = st.integers(0, 2**53)
_maybe_time = st.none() | _time
_counter = st.integers(0, 2**31 - 1)
_revision = st.integers(1, 2**40)

documents = st.builds(
    Document,
    dataset_id=st.just(builders.DATASET_ID),
    batch_id=_text,
    document_id=_text,
    position=st.integers(0, 10**6),
    display_name=_text,
    labels=st.dictionaries(_text, _text, max_size=3),
    created_at=_time,
    state=st.sampled_from(DocumentState),
    stage=st.sampled_from(Stage),
    attempt=st.integers(1, 2**31 - 1),
    worker=_text,
    stalled=st.booleans(),
    progress=st.builds(
        Progress,
        completed_segments=_counter,
        total_segments=st.none() | _counter,
        step=st.none()
        | st.builds(Step, name=_text, completed=_counter, total=st.none() | _counter),
    ),
    error=st.none() | st.builds(DocumentError, reason=_text, message=_text),
    revision=_revision,
    updated_at=_time,
    processing_started_at=_maybe_time,
    parsing_completed_at=_maybe_time,
    cleaning_completed_at=_maybe_time,
    splitting_completed_at=_maybe_time,
    completed_at=_maybe_time,
    paused_at=_maybe_time,
    stopped_at=_maybe_time,
)

EVERY_FIELD = builders.document_in(
    DocumentState.FAILED,
    Stage.INDEXING,
    display_name="A",
    labels={"k": "v", "ü": "x" * 200},
    attempt=3,
    stalled=True,
    progress=Progress(
        completed_segments=4, total_segments=0, step=Step(name="pages", completed=3, total=0)
    ),
    completed_at=10_000,
    paused_at=11_000,
)


EVERY_FIELD_OF_A_TRANSITION = builders.transition(
    revision=EVERY_FIELD.revision,
    document=EVERY_FIELD,
    previous_state=DocumentState.RUNNING,
    previous_stage=Stage.PARSING,
    event_at=0,
    committed_at=EVERY_FIELD.updated_at,
)


@st.composite
def transitions(draw: st.DrawFn) -> Transition:
    document = draw(st.none() | documents)
    return builders.transition(
        revision=document.revision if document else draw(_revision),
        kind=draw(st.sampled_from(TransitionKind)),
        document=document,
        previous_state=draw(st.none() | st.sampled_from(DocumentState)),
        previous_stage=draw(st.none() | st.sampled_from(Stage)),
        event_at=draw(_maybe_time),
        committed_at=document.updated_at if document else draw(_time),
    )


def _encode(document: Document) -> EncodedDocument:
    condition = ENCODER.condition(document) + ENCODER.last_change(document)
    return document.position, ENCODER.identity(document) + condition


def _encode_transition(transition: Transition) -> EncodedTransition:
    document = transition.document
    return EncodedTransition(
        revision=transition.revision,
        write_id=transition.write_id,
        position=document.position if document else None,
        kind=transition.kind,
        previous_state=transition.previous_state,
        previous_stage=transition.previous_stage,
        event_at=transition.event_at,
        committed_at=transition.committed_at,
        identity=ENCODER.identity(document) if document else None,
        condition=ENCODER.condition(document) if document else None,
    )


def _name(document: Document | None) -> tuple[str, str]:
    return builders.DATASET_ID, document.batch_id if document else builders.BATCH_ID


@given(documents)
@example(builders.document())
@example(EVERY_FIELD)
def test_pieces_of_a_document_are_the_document(document: Document) -> None:
    encoded = wire.encode_document(_name(document), _encode(document))
    assert ss.GetDocumentResponse.FromString(encoded).document == wire.to_document(document)


@given(documents)
def test_pieces_of_a_document_share_no_field(document: Document) -> None:
    """Each piece wins over the others only in its own fields, in whatever order they are joined."""
    identity = r.Document.FromString(ENCODER.identity(document))
    condition = r.Document.FromString(ENCODER.condition(document))
    last_change = r.Document.FromString(ENCODER.last_change(document))
    of_identity = {"document_id", "display_name", "labels", "create_time"}
    of_last_change = {"revision", "update_time"}
    others = of_identity | of_last_change | {"dataset_id", "batch_id"}
    assert {field.name for field, _ in identity.ListFields()} <= of_identity
    assert {field.name for field, _ in last_change.ListFields()} <= of_last_change
    assert not {field.name for field, _ in condition.ListFields()} & others


@given(transitions())
@example(builders.transition())
@example(EVERY_FIELD_OF_A_TRANSITION)
def test_pieces_of_a_transition_are_the_transition(transition: Transition) -> None:
    name, encoded = _name(transition.document), _encode_transition(transition)
    expected = to_transition(transition)
    listed = ss.ListTransitionsResponse.FromString(wire.encode_transitions(name, [encoded] * 2))
    assert list(listed.transitions) == [expected] * 2
    [entry] = wire.WatchEncoder().transitions(name, [encoded])
    assert list(ss.WatchBatchResponse.FromString(entry).transitions) == [expected]
    assert len(entry) <= transition_size(encoded) or len(name[1]) > 128


@given(st.lists(documents.map(lambda document: replace(document, batch_id="b"))))
def test_lists_and_snapshots_have_the_documents_in_order(many: list[Document]) -> None:
    name, encoded = (builders.DATASET_ID, "b"), [*map(_encode, many)]
    expected = [*map(wire.to_document, many)]
    listed = wire.encode_documents(name, encoded)
    assert list(ss.ListDocumentsResponse.FromString(listed).documents) == expected
    part = SnapshotPart(reason=SnapshotReason.TOKEN_EXPIRED, documents=encoded, complete=True)
    snapshot = ss.WatchBatchResponse.FromString(wire.WatchEncoder().snapshot(name, part)).snapshot
    assert list(snapshot.documents) == expected
    assert (snapshot.reason, snapshot.complete) == (ss.SNAPSHOT_REASON_TOKEN_EXPIRED, True)
    assert len(listed) <= sum(map(document_size, encoded))


def test_examples_set_every_field_and_none() -> None:
    """A field that is added to the protos, and forgotten in a piece, fails this or the others."""
    every = to_transition(EVERY_FIELD_OF_A_TRANSITION)
    progress = every.document.progress
    for message in (every, every.document, progress, progress.step, every.document.error):
        fields: Any = type(message).DESCRIPTOR.fields_by_name
        assert {field.name for field, _ in message.ListFields()} == set(fields)


def test_version_is_of_the_fields_of_the_protos() -> None:
    """Bytes that lack a field must not count as complete."""
    descriptors: Mapping[str, Descriptor] = r.DESCRIPTOR.message_types_by_name
    actual = {
        name: " ".join(
            f"{field.number} {field.name}"
            for field in sorted(descriptors[name].fields, key=lambda field: field.number)
        )
        for name in FIELDS
    }
    assert (ENCODER.version, actual) == (VERSION, FIELDS)


@given(st.integers(0, 2**63 - 1))
def test_number_is_encoded_as_by_protobuf(number: int) -> None:
    assert b"\x08" + varint(number) == (
        r.Transition(revision=number).SerializeToString() or b"\x08\x00"
    )
