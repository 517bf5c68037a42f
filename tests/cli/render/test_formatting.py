"""Times and numbers, formatted for people and for programs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from stagecast.cli.render import formatting
from stagecast.v1 import resources_pb2 as r

NOW_S = datetime(2026, 11, 22, 0, 30, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def _two_hours_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC-2")
        time.tzset()
        yield
    time.tzset()


def at(year: int, month: int, day: int, hour: int, minute: int, second: int) -> Timestamp:
    date = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    return Timestamp(seconds=int(date.timestamp()), nanos=5_000_000)


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (at(2026, 11, 21, 22, 0, 1), "00:00:01"),
        (at(2026, 11, 21, 21, 59, 59), "21 Nov 23:59:59"),
        (at(2025, 12, 31, 10, 4, 33), "2025-12-31 12:04:33"),
    ],
)
def test_moments_are_local_and_short(time: Timestamp, text: str) -> None:
    assert formatting.moment(time, NOW_S) == text


def test_timestamps_have_date_and_offset() -> None:
    assert formatting.timestamp(at(2026, 11, 21, 22, 0, 1)) == "2026-11-22T00:00:01.005+02:00"


@pytest.mark.parametrize(
    ("number", "documents", "segments"),
    [
        (1, "1/1 document", "1 succeeded; 1 segment"),
        (2, "2/2 documents", "2 succeeded; 2 segments"),
    ],
)
def test_quantity_of_one_is_singular(number: int, documents: str, segments: str) -> None:
    counts = r.DocumentCounts(total=number, succeeded=number)
    progress = r.Progress(completed_segments=number)
    batch = r.Batch(counts=counts, progress=progress, sealed=True)
    assert formatting.documents_line(counts) == documents
    assert formatting.contents_line(batch) == segments


def test_noun_of_segments_follows_their_total() -> None:
    for total, reported in ((1, "1/1 segment"), (12, "1/12 segments")):
        progress = r.Progress(completed_segments=1, total_segments=total)
        batch = r.Batch(progress=progress, sealed=True)
        assert formatting.contents_line(batch) == f"no documents; {reported}"


@pytest.mark.parametrize(
    ("document_id", "name", "text"),
    [
        ("7", "report", "report"),
        ("a.txt", "a.txt", ""),
        ("texts/a.txt", "a.txt", ""),
        ("texts/ba.txt", "a.txt", "a.txt"),
        ("texts/", "", ""),
    ],
)
def test_display_name_is_left_out_where_the_id_ends_with_it(
    document_id: str, name: str, text: str
) -> None:
    document = r.Document(document_id=document_id, display_name=name)
    assert formatting.display_name(document) == text
