"""States, counts, times and foreign texts, formatted for output."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast.escaping import escape, escape_for
from stagecast.model import SECOND_US
from stagecast.v1 import resources_pb2 as r


def stage_word(document: r.Document) -> str:
    """Return the stage, such as `parsing`."""
    return word(r.Stage.DESCRIPTOR, document.stage)


def document_word(document: r.Document) -> str:
    """Return the state, such as `succeeded`, or `stalled`."""
    return "stalled" if document.stalled else word(r.DocumentState.DESCRIPTOR, document.state)


def previous_stage_word(transition: r.Transition) -> str:
    """Return the stage before a transition, or nothing for a new document."""
    stage = transition.previous_stage
    return word(r.Stage.DESCRIPTOR, stage) if stage else ""


def previous_state_word(transition: r.Transition) -> str:
    """Return the state before a transition, or nothing for a new document."""
    state = transition.previous_state
    return word(r.DocumentState.DESCRIPTOR, state) if state else ""


def batch_word(batch: r.Batch) -> str:
    """Return the state, such as `running`."""
    return word(r.BatchState.DESCRIPTOR, batch.state)


def word(enum: EnumDescriptor, number: int) -> str:
    """Return the value of an enum as a word without its prefix, in lower case.

    An unknown value, of a newer server, is written as its number.
    """
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    return value.name.removeprefix(enum.values[0].name.removesuffix("UNSPECIFIED")).lower()


def error_line(document: r.Document) -> str:
    """Return the error of a document for people: in one line, with single spaces."""
    return shown(" ".join(_error(document.error).split()))


def error_field(document: r.Document) -> str:
    """Return the error of a document for programs, escaped reversibly; empty without one."""
    return escape(_error(document.error))


def _error(error: r.DocumentError) -> str:
    return f"{error.reason}: {error.message}" if error.message else error.reason


def counts_line(counts: r.DocumentCounts) -> str:
    """Return the number of documents in each state that has any."""
    named = (
        (counts.pending, "pending"),
        (counts.running, "running"),
        (counts.stalled, "of them stalled"),
        (counts.paused, "paused"),
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.stopped, "stopped"),
    )
    return ", ".join(f"{number} {name}" for number, name in named if number) or "no documents"


def contents_line(batch: r.Batch) -> str:
    """Return the contents of a batch: documents by state, segments, and whether it is sealed."""
    line = counts_line(batch.counts)
    counters = segments(batch.progress)
    if counters:
        known = batch.progress.total_segments or batch.progress.completed_segments
        line = f"{line}; {counters} {'segment' if known == 1 else 'segments'}"
    return line if batch.sealed else f"{line}; more documents may follow"


def batches_line(dataset: r.Dataset) -> str:
    """Return the number of batches of a dataset, and of its open ones."""
    return f"{quantity(dataset.batches, 'batch', 'batches')}, {dataset.open_batches} open"


def documents_line(counts: r.DocumentCounts) -> str:
    """Return the numbers of ended and of all documents."""
    return f"{ended(counts)}/{quantity(counts.total, 'document', 'documents')}"


def quantity(number: int, one: str, many: str) -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{number} {one if number == 1 else many}"


def ended(counts: r.DocumentCounts) -> int:
    """Return the number of documents that have ended."""
    return counts.succeeded + counts.failed + counts.stopped


def segments(progress: r.Progress) -> str:
    """Return counters such as `7/12`; empty without any."""
    if progress.HasField("total_segments"):
        return f"{progress.completed_segments}/{progress.total_segments}"
    return str(progress.completed_segments) if progress.completed_segments else ""


def step(progress: r.Progress) -> str:
    """Return the step within the stage, such as `pages 3/7`; empty without one."""
    if not progress.HasField("step"):
        return ""
    one = progress.step
    return f"{one.name} {one.completed}" + (f"/{one.total}" if one.HasField("total") else "")


def counters(progress: r.Progress) -> str:
    """Return the segments and the step for people; empty without any."""
    return ", ".join(filter(None, (segments(progress), shown(step(progress)))))


def span(seconds: float) -> str:
    """Return a duration such as `4.2 s`, `3:05 min`, `27:00 h`."""
    if round(seconds, 1) < 60:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02} h"


def moment(time: Timestamp, now_s: float) -> str:
    """Return a local time such as `12:04:33`, with the date unless it is today's."""
    local, now = _local(seconds(time)), _local(now_s)
    if local.date() == now.date():
        return f"{local:%H:%M:%S}"
    return f"{local:%d %b %H:%M:%S}" if local.year == now.year else f"{local:%Y-%m-%d %H:%M:%S}"


def timestamp(time: Timestamp) -> str:
    """Return a local time for programs: ISO 8601 with its offset."""
    return _local(seconds(time)).isoformat(timespec="milliseconds")


def seconds(time: Timestamp) -> float:
    """Return a time in seconds since the epoch."""
    return time.ToMicroseconds() / SECOND_US


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone()


def shown(text: str) -> str:
    """Return a text with control characters escaped.

    Characters that the encoding of stdout lacks are escaped too, before widths are measured.
    """
    return escape_for(text, sys.stdout.encoding or "utf-8")


def dataset_name(dataset_id: str, display_name: str) -> str:
    """Return the id of a dataset for people, with its display name if it has one."""
    return f"{dataset_id} ({shown(display_name)})" if display_name else dataset_id


def display_name(document: r.Document) -> str:
    """Return the display name of a document; empty if the id ends with it, as a path does."""
    name = document.display_name
    return "" if f"/{document.document_id}".endswith(f"/{name}") else shown(name)


def elapsed(document: r.Document, now_s: float) -> str:
    """Return the duration of this attempt so far; empty before its start."""
    if not document.HasField("processing_start_time"):
        return ""
    ends = [
        seconds(getattr(document, field))
        for field in ("complete_time", "stop_time", "pause_time")
        if document.HasField(field)
    ]
    return span((ends[0] if ends else now_s) - seconds(document.processing_start_time))


def batch_elapsed(batch: r.Batch, now_s: float) -> str:
    """Return the duration of a batch so far."""
    end_s = seconds(batch.end_time) if batch.HasField("end_time") else now_s
    return span(end_s - seconds(batch.create_time))
