"""Documents in pieces, encoded when they are written and joined when they are read.

The fields of a message are bytes one behind the other, in any order. So the store keeps the pieces
of a document, and answers join them with what is the same for all rows of a batch, and for the log
with what its columns have in a few bytes; nothing is decoded.

The pieces are written by hand, which takes a fifth of the time of building a message for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from operator import attrgetter

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast.model import (
    SECOND_US,
    Document,
    DocumentState,
    EncodedDocument,
    EncodedTransition,
    Progress,
    SnapshotPart,
    Stage,
    Step,
    Transition,
    WatchMessage,
)
from stagecast.v1 import resources_pb2 as _pb
from stagecast.v1 import status_service_pb2 as _status_pb
from stagecast.wire.messages import encode_watch_message

BatchName = tuple[str, str]

_LENGTH_DELIMITED = (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_MESSAGE)


_LAST = [bytes((low,)) for low in range(0x80)]
_FOLLOWED = [bytes((low | 0x80,)) for low in range(0x80)]


def varint(number: int) -> bytes:
    """Return a number of at least 0 in the encoding of protobuf: seven bits a byte."""
    encoded = b""
    while number > 0x7F:
        encoded += _FOLLOWED[number & 0x7F]
        number >>= 7
    return encoded + _LAST[number]


# Of documents and transitions: of these there are few.
_length = lru_cache(maxsize=1 << 12)(varint)


def _tag(message: type, field: str) -> bytes:
    """Return what precedes a field: its number and the kind of its encoding."""
    descriptor: FieldDescriptor = message.DESCRIPTOR.fields_by_name[field]  # type: ignore[attr-defined] # of every message
    return varint(descriptor.number << 3 | 2 * (descriptor.cpp_type in _LENGTH_DELIMITED))


_document = partial(_tag, _pb.Document)
_transition = partial(_tag, _pb.Transition)


def _sized(encoded: bytes) -> bytes:
    return varint(len(encoded)) + encoded


def _text(value: str) -> bytes:
    return _sized(value.encode())


_SECONDS, _NANOS = _tag(Timestamp, "seconds"), _tag(Timestamp, "nanos")


# What one call wrote has one time, and a document keeps the times of its earlier stages.
@lru_cache(maxsize=1 << 12)
def _time(moment_us: int) -> bytes:
    """Return a `Timestamp` with its length."""
    seconds, rest = divmod(moment_us, SECOND_US)
    if seconds < 0:
        return _sized(Timestamp(seconds=seconds, nanos=rest * 1_000).SerializeToString())
    return _sized(_SECONDS + varint(seconds) + _NANOS + varint(rest * 1_000))


_ATTEMPT, _WORKER, _ERROR = _document("attempt"), _document("worker"), _document("error")
_STALLED = _document("stalled") + varint(True)
_PROGRESS = _document("progress")
_COMPLETED = _tag(_pb.Progress, "completed_segments")
_TOTAL = _tag(_pb.Progress, "total_segments")
_STEP = _tag(_pb.Progress, "step")
_STATES = [_document("state") + varint(state) for state in (0, *DocumentState)]
_STAGES = [_document("stage") + varint(stage) for stage in (0, *Stage)]

# Times that a document may have, by the names of the record and of the message.
_TIMES = {
    "processing_started_at": "processing_start_time",
    "parsing_completed_at": "parsing_complete_time",
    "cleaning_completed_at": "cleaning_complete_time",
    "splitting_completed_at": "splitting_complete_time",
    "completed_at": "complete_time",
    "paused_at": "pause_time",
    "stopped_at": "stop_time",
}
_TIME_TAGS = [_document(name) for name in _TIMES.values()]
_times = attrgetter(*_TIMES)

_DOCUMENT_ID, _DISPLAY_NAME = _document("document_id"), _document("display_name")
_CREATE_TIME = _document("create_time")
_REVISION, _UPDATE_TIME = _document("revision"), _document("update_time")


class StoreEncoder:
    """Encodes the pieces that the store keeps: an `Encoder` of its protocol.

    Attributes:
        version: of what the bytes contain. It goes up when a field of `Document` is added or gets
            another meaning, together with a migration that makes the indexes of rows to encode
            anew; `tests/wire/test_encoding.py` notices a changed field.
    """

    version = 2

    def identity(self, document: Document) -> bytes:
        """Return the fields of a document that never change, but for the ids of its batch."""
        encoded = _DOCUMENT_ID + _text(document.document_id)
        if document.display_name:
            encoded += _DISPLAY_NAME + _text(document.display_name)
        if document.labels:
            encoded += _pb.Document(labels=document.labels).SerializeToString()
        return encoded + _CREATE_TIME + _time(document.created_at)

    def condition(self, document: Document) -> bytes:
        """Return the other fields, but for the next and the ids of the batch."""
        encoded = _STATES[document.state] + _STAGES[document.stage]
        encoded += _ATTEMPT + varint(document.attempt) + _PROGRESS + _progress(document.progress)
        if document.worker:
            encoded += _WORKER + _text(document.worker)
        if document.stalled:
            encoded += _STALLED
        for tag, moment_us in zip(_TIME_TAGS, _times(document), strict=True):
            if moment_us is not None:
                encoded += tag + _time(moment_us)
        if document.error is not None:
            error = _pb.DocumentError(reason=document.error.reason, message=document.error.message)
            encoded += _ERROR + _sized(error.SerializeToString())
        return encoded

    def last_change(self, document: Document) -> bytes:
        """Return the revision and time of the last transition of a document."""
        number, time = varint(document.revision), _time(document.updated_at)
        return _REVISION + number + _UPDATE_TIME + time


def _progress(progress: Progress) -> bytes:
    encoded = b""
    if progress.completed_segments:
        encoded = _COMPLETED + varint(progress.completed_segments)
    if progress.total_segments is not None:
        encoded += _TOTAL + varint(progress.total_segments)
    if progress.step is not None:
        encoded += _STEP + _step(progress.step)
    return _sized(encoded)


def _step(step: Step) -> bytes:
    message = _pb.Step(name=step.name, completed=step.completed, total=step.total)
    return _sized(message.SerializeToString())


# Answers.


def _ids(name: BatchName) -> bytes:
    """Return the fields that all documents of a batch have in common."""
    return _pb.Document(dataset_id=name[0], batch_id=name[1]).SerializeToString()


def _join_documents(tag: bytes, name: BatchName, documents: Iterable[EncodedDocument]) -> bytes:
    """Return documents as entries of a field."""
    ids = _ids(name)
    common = len(ids)
    heads: dict[int, bytes] = {}  # by the size of a document: there are few
    entries: list[bytes] = []
    for _, fields in documents:
        size = common + len(fields)
        head = heads.get(size)
        if head is None:
            head = heads[size] = tag + varint(size) + ids
        entries += (head, fields)
    return b"".join(entries)


_KIND = _transition("kind")
_PREVIOUS_STATE, _PREVIOUS_STAGE = _transition("previous_state"), _transition("previous_stage")
_EVENT_REVISION = _transition("revision")
_EVENT_TIME, _COMMIT_TIME = _transition("event_time"), _transition("commit_time")
_DOCUMENT = _transition("document")


# What one call wrote has one time.
@lru_cache(maxsize=1 << 12)
def _move(
    kind: int, previous_state: int | None, previous_stage: int | None, committed_at: int
) -> tuple[bytes, bytes]:
    """Return what a transition did and when, and the time of its document."""
    time = _time(committed_at)
    move = _COMMIT_TIME + time + _KIND + varint(kind)
    if previous_state:
        move += _PREVIOUS_STATE + varint(previous_state)
    if previous_stage:
        move += _PREVIOUS_STAGE + varint(previous_stage)
    return move, _UPDATE_TIME + time


def _join_transitions(
    tag: bytes, name: BatchName, transitions: Iterable[EncodedTransition]
) -> list[bytes]:
    """Return transitions, each as an entry of a field."""
    head = _ids(name) + _REVISION
    return [_join_transition(tag, head, transition) for transition in transitions]


def _join_transition(tag: bytes, head: bytes, transition: EncodedTransition) -> bytes:
    """Return a transition; the document begins with the head."""
    revision, _, _, kind, state, stage, event_at, committed_at, identity, condition = transition
    number = varint(revision)
    move, time = _move(kind, state, stage, committed_at)
    if event_at is not None:
        move += _EVENT_TIME + _time(event_at)
    size = len(_EVENT_REVISION) + len(number) + len(move)
    if identity is None or condition is None:
        return b"".join((tag, _length(size), _EVENT_REVISION, number, move))
    document = len(head) + len(number) + len(time) + len(identity) + len(condition)
    length = _length(document)
    return b"".join(
        (
            *(tag, _length(size + len(_DOCUMENT) + len(length) + document)),
            *(_EVENT_REVISION, number, move),
            *(_DOCUMENT, length, head, number, time, identity, condition),
        )
    )


_GOT = _tag(_status_pb.GetDocumentResponse, "document")
_LISTED_DOCUMENT = _tag(_status_pb.ListDocumentsResponse, "documents")
_LISTED_TRANSITION = _tag(_status_pb.ListTransitionsResponse, "transitions")
_WATCHED_TRANSITION = _tag(_status_pb.WatchBatchResponse, "transitions")
_SNAPSHOT = _tag(_status_pb.WatchBatchResponse, "snapshot")
_SNAPSHOT_DOCUMENT = _tag(_status_pb.Snapshot, "documents")


def encode_document(name: BatchName, document: EncodedDocument) -> bytes:
    """Return an encoded `GetDocumentResponse`."""
    return _join_documents(_GOT, name, (document,))


def encode_documents(name: BatchName, documents: Iterable[EncodedDocument]) -> bytes:
    """Return the documents of an encoded `ListDocumentsResponse`; other fields may follow."""
    return _join_documents(_LISTED_DOCUMENT, name, documents)


def encode_transitions(name: BatchName, transitions: Iterable[EncodedTransition]) -> bytes:
    """Return the transitions of an encoded `ListTransitionsResponse`; other fields may follow."""
    return b"".join(_join_transitions(_LISTED_TRANSITION, name, transitions))


def _to_encoded(transition: Transition) -> EncodedTransition:
    document, encoder = transition.document, StoreEncoder()
    return EncodedTransition(
        revision=transition.revision,
        write_id=transition.write_id,
        position=document.position if document else None,
        kind=transition.kind,
        previous_state=transition.previous_state,
        previous_stage=transition.previous_stage,
        event_at=transition.event_at,
        committed_at=transition.committed_at,
        identity=encoder.identity(document) if document else None,
        condition=encoder.condition(document) if document else None,
    )


class WatchEncoder:
    """Encodes messages of watches, and pieces of them that are joined byte by byte."""

    def __call__(self, message: WatchMessage) -> bytes:
        """Return a message, or a piece of one."""
        return encode_watch_message(message)

    def transitions(
        self, name: BatchName, transitions: Iterable[EncodedTransition]
    ) -> Sequence[bytes]:
        """Return transitions, each as a piece of a message."""
        return _join_transitions(_WATCHED_TRANSITION, name, transitions)

    def committed(self, name: BatchName, transitions: Iterable[Transition]) -> Sequence[bytes]:
        """Return transitions that were not read, each as a piece of a message."""
        return self.transitions(name, map(_to_encoded, transitions))

    def snapshot(self, name: BatchName, part: SnapshotPart) -> bytes:
        """Return a part of a snapshot as a piece of a message."""
        head = _status_pb.Snapshot(
            reason=_status_pb.SnapshotReason.ValueType(part.reason), complete=part.complete
        ).SerializeToString()
        documents = _join_documents(_SNAPSHOT_DOCUMENT, name, part.documents)
        return b"".join((_SNAPSHOT, varint(len(head) + len(documents)), head, documents))
