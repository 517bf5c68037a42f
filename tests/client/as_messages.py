"""Records as the messages that they came from, and watches for the validator of messages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

import stagecast
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.validator import WatchRecord

M = TypeVar("M", bound=Message)


def as_message(record: Any, kind: type[M]) -> M:
    """Return the message of a record, whose fields have the same names."""
    message = kind()
    for field in dataclasses.fields(record):
        _put(message, field.name, getattr(record, field.name))
    return message


def _put(message: Any, name: str, value: Any) -> None:
    descriptor = message.DESCRIPTOR.fields_by_name[name]
    if value is None:
        return
    if isinstance(value, StrEnum):
        setattr(message, name, _number(descriptor, value))
    elif isinstance(value, datetime):
        getattr(message, name).FromDatetime(value)
    elif isinstance(value, timedelta):
        getattr(message, name).FromTimedelta(value)
    elif isinstance(value, Mapping):
        getattr(message, name).update(value)
    elif dataclasses.is_dataclass(value):
        part = getattr(message, name)
        part.SetInParent()
        part.CopyFrom(as_message(value, type(part)))
    else:
        setattr(message, name, value)


def _number(descriptor: FieldDescriptor, value: str) -> int:
    assert descriptor.enum_type is not None
    values = descriptor.enum_type.values_by_name
    prefix = descriptor.enum_type.values[0].name.removesuffix("UNSPECIFIED")
    return values[prefix + value].number


class EventRecord(WatchRecord):
    """Checks the events of a watch: passes them to the validator as messages.

    A message ends with the event after which the watch has the batch of its revision.
    """

    def __init__(self) -> None:
        super().__init__()
        self._message = s.WatchBatchResponse()
        self.events: list[Any] = []

    def take(self, event: stagecast.Event, watch: Any) -> None:
        """Record an event of a watch."""
        self.events.append(event)
        message = self._message
        if isinstance(event, stagecast.Snapshot):
            message.revision = event.revision
            message.snapshot.reason = s.SnapshotReason.Value(f"SNAPSHOT_REASON_{event.reason}")
            message.snapshot.documents.extend(as_message(d, r.Document) for d in event.documents)
            message.snapshot.complete = True
        elif isinstance(event, stagecast.Transition):
            message.revision = event.revision
            message.transitions.append(as_message(event, r.Transition))
        else:
            progress = stagecast.Progress(
                completed_segments=event.completed_segments,
                total_segments=event.total_segments,
                step=event.step,
            )
            message.progress.add(
                document_id=event.document_id,
                attempt=event.attempt,
                progress=as_message(progress, r.Progress),
            )
        message.revision = message.revision or self.revision
        if watch.batch is not None and watch.batch.revision == message.revision:
            message.batch.CopyFrom(as_message(watch.batch, r.Batch))
            message.resume_token = watch.resume_token
            self._message = s.WatchBatchResponse()
            self.receive(message)
