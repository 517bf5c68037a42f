"""The size bound of a record is never below its encoded size."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from stagecast.model import (
    Document,
    DocumentCounts,
    DocumentError,
    DocumentState,
    Progress,
    Stage,
    Step,
    Transition,
    TransitionKind,
    dataset_size_bound,
    size_bound,
)
from stagecast.v1 import status_service_pb2 as pb
from stagecast.wire import to_dataset, to_document
from tests import builders
from tests.messages import to_transition

INT64 = 2**63 - 1
LAST_US = 253_402_300_799_999_999  # the last moment of the year 9999
FIRST_US = -62_135_596_800_000_000  # the first of the year 1

# One to four bytes of UTF-8 for each character.
texts = st.text(st.characters(codec="utf-8"), max_size=64) | st.integers(0, 5_000).flatmap(
    lambda length: st.sampled_from("aéᄀ🙂").map(lambda character: character * length)
)
times = st.integers(FIRST_US, LAST_US)
counters = st.integers(0, INT64)
documents = st.fixed_dictionaries(
    {
        "dataset_id": st.uuids().map(str),
        "batch_id": texts,
        "document_id": texts,
        "display_name": texts,
        "labels": st.dictionaries(texts, texts, max_size=32),
        "created_at": times,
        "state": st.sampled_from(DocumentState),
        "stage": st.sampled_from(Stage),
        "attempt": st.integers(1, 2**31 - 1),
        "worker": texts,
        "stalled": st.booleans(),
        "progress": st.builds(
            Progress,
            completed_segments=counters,
            total_segments=st.none() | counters,
            step=st.none()
            | st.builds(Step, name=texts, completed=counters, total=st.none() | counters),
        ),
        "error": st.none() | st.builds(DocumentError, reason=texts, message=texts),
        "revision": counters,
        "updated_at": times,
    },
    optional=dict.fromkeys(
        (
            *("processing_started_at", "parsing_completed_at", "cleaning_completed_at"),
            *("splitting_completed_at", "completed_at", "paused_at", "stopped_at"),
        ),
        times,
    ),
).map(lambda fields: builders.document(**fields))
around_documents = st.fixed_dictionaries(
    {
        "revision": counters,
        "kind": st.sampled_from(TransitionKind),
        "previous_state": st.none() | st.sampled_from(DocumentState),
        "previous_stage": st.none() | st.sampled_from(Stage),
        "event_at": st.none() | times,
        "committed_at": times,
    }
)


def largest(text: str, labels: int) -> Document:
    """Return a document with all fields at their maximum size and these texts."""
    return builders.document(
        batch_id=text,
        document_id=text,
        display_name=text,
        labels={f"{number}{text}": text for number in range(labels)},
        created_at=FIRST_US + 999_999,
        state=DocumentState.STOPPED,
        stage=Stage.COMPLETED,
        attempt=2**31 - 1,
        worker=text,
        stalled=True,
        progress=Progress(
            completed_segments=INT64,
            total_segments=INT64,
            step=Step(name=text, completed=INT64, total=INT64),
        ),
        error=DocumentError(reason=text, message=text),
        revision=INT64,
        updated_at=FIRST_US + 999_999,
        processing_started_at=FIRST_US + 999_999,
        parsing_completed_at=FIRST_US + 999_999,
        cleaning_completed_at=FIRST_US + 999_999,
        splitting_completed_at=FIRST_US + 999_999,
        completed_at=FIRST_US + 999_999,
        paused_at=FIRST_US + 999_999,
        stopped_at=FIRST_US + 999_999,
    )


AROUND_LARGEST = {
    "revision": INT64,
    "kind": TransitionKind.RETRIED,
    "previous_state": DocumentState.STOPPED,
    "previous_stage": Stage.COMPLETED,
    "event_at": FIRST_US + 999_999,
    "committed_at": FIRST_US + 999_999,
}


def transition(document: Document | None, around: dict[str, Any]) -> Transition:
    """Return a transition of a document, or of the batch."""
    return builders.transition(document=document, **around)


@given(document=documents)
@example(document=largest("", labels=0))
@example(document=largest("", labels=32))
@example(document=largest("🙂", labels=32))
@example(document=largest("🙂" * 5_000, labels=32))
def test_document_is_not_larger_than_its_bound(document: Document) -> None:
    message = to_document(document)
    assert message.ByteSize() <= size_bound(document)
    framed = pb.Snapshot(documents=[message]).ByteSize()
    assert framed <= size_bound(document), "the bound includes its tag and length"


@given(document=documents, around=around_documents)
@example(document=largest("", labels=0), around=AROUND_LARGEST)
@example(document=largest("", labels=32), around=AROUND_LARGEST)
@example(document=largest("🙂", labels=32), around=AROUND_LARGEST)
@example(document=largest("🙂" * 5_000, labels=32), around=AROUND_LARGEST)
def test_transition_is_not_larger_than_bound_of_its_document(
    document: Document, around: dict[str, Any]
) -> None:
    message = to_transition(transition(document, around))
    assert message.ByteSize() <= size_bound(document)
    framed = pb.WatchBatchResponse(transitions=[message]).ByteSize()
    assert framed <= size_bound(document), "the bound includes its tag and length"


@given(around=around_documents)
@example(around=AROUND_LARGEST)
def test_transition_of_batch_is_not_larger_than_bound_of_none(
    around: dict[str, Any],
) -> None:
    message = to_transition(transition(None, around))
    assert pb.WatchBatchResponse(transitions=[message]).ByteSize() <= size_bound(None)


@given(name=texts)
@example(name="🙂" * 256)
def test_dataset_is_not_larger_than_its_bound(name: str) -> None:
    dataset = builders.dataset(
        display_name=name,
        batches=2**31 - 1,
        open_batches=2**31 - 1,
        counts=DocumentCounts(*[INT64 // 8] * 7),
        updated_at=FIRST_US + 999_999,
    )
    framed = pb.ListDatasetsResponse(datasets=[to_dataset(dataset)]).ByteSize()
    assert framed <= dataset_size_bound(dataset)


@given(document=documents)
def test_bound_is_tight_enough_to_fill_messages(document: Document) -> None:
    assert size_bound(document) <= 4 * to_document(document).ByteSize() + 512
