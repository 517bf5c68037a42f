"""How states, times and texts from elsewhere are written on a terminal."""

from __future__ import annotations

from google.protobuf.descriptor import EnumDescriptor

from stagecast.v1 import resources_pb2 as r


def stage_word(document: r.Document) -> str:
    """Return the stage, such as `parsing`."""
    return word(r.Stage.DESCRIPTOR, document.stage)


def document_word(document: r.Document) -> str:
    """Return the state, such as `succeeded`, or `stalled` if it is running and silent."""
    return "stalled" if document.stalled else word(r.DocumentState.DESCRIPTOR, document.state)


def word(enum: EnumDescriptor, number: int) -> str:
    """Return the value of an enum as a word without its prefix, in lower case.

    A value that a newer server has added is written as its number.
    """
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    return value.name.removeprefix(enum.values[0].name.removesuffix("UNSPECIFIED")).lower()


def error_line(document: r.Document) -> str:
    """Return why a document failed, in one line."""
    error = document.error
    return one_line(f"{error.reason}: {error.message}" if error.message else error.reason)


def counts_line(counts: r.DocumentCounts) -> str:
    """Return how many documents are in each state where there are any."""
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


def segments(progress: r.Progress) -> str:
    """Return counters such as `7/12`, or nothing if there are none."""
    if progress.HasField("total_segments"):
        return f"{progress.completed_segments}/{progress.total_segments}"
    return str(progress.completed_segments) if progress.completed_segments else ""


def span(seconds: float) -> str:
    """Return a span of time such as `4.2 s`, `3:05 min`, `27:00 h`."""
    if round(seconds, 1) < 60:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02} h"


def one_line(text: str) -> str:
    """Return a text without line ends and control characters, which could move the cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def name(document: r.Document) -> str:
    """Return what to call a document: the name it was given, else its id."""
    return one_line(document.display_name or document.document_id)


def time_taken(document: r.Document, now_s: float) -> str:
    """Return how long this attempt took or has taken so far; nothing if it has not begun."""
    if not document.HasField("processing_start_time"):
        return ""
    ends = [
        getattr(document, field).ToMicroseconds() / 1e6
        for field in ("complete_time", "stop_time", "pause_time")
        if document.HasField(field)
    ]
    return span(
        (ends[0] if ends else now_s) - document.processing_start_time.ToMicroseconds() / 1e6
    )
