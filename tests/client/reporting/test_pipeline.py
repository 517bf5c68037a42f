"""What a pipeline reports while the server is there: stages, counters, failures."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

import stagecast
from stagecast import DocumentState, Stage
from tests.client.reporting.pipelines import documents_of

pytestmark = pytest.mark.usefixtures("running")


# The seven lines.


def test_every_stage_and_counter_of_the_seven_lines_is_recorded(
    reporter: stagecast.Reporter, client: stagecast.Client, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.md").write_text("one two three")
    before = datetime.now(UTC)
    with reporter.batch("handbook", folder.glob("*.md")) as batch:
        for doc in batch.pending():
            with doc:
                doc.parsing()
                text = Path(doc.id).read_text()
                doc.splitting()
                chunks = text.split()
                for _ in doc.track(chunks):
                    pass
    after = datetime.now(UTC)
    assert batch.flush(60)
    actual = client.wait("handbook", batch.id, timeout=60)
    assert (actual.state, actual.counts.succeeded) == ("SUCCEEDED", 3)
    for document in documents_of(client, batch).values():
        assert document.progress == stagecast.Progress(completed_segments=3, total_segments=3)
    history = client.history("handbook", batch.id, str(folder / "a.md"))
    stages = [(event.kind, event.document and event.document.stage) for event in history]
    assert stages == [
        ("REGISTERED", "WAITING"),
        ("STARTED", "WAITING"),
        ("STAGE_ENTERED", "PARSING"),
        ("STAGE_ENTERED", "SPLITTING"),
        ("STAGE_ENTERED", "INDEXING"),
        ("SUCCEEDED", "COMPLETED"),
    ]
    times = [event.event_time for event in client.history("handbook", batch.id) if event.event_time]
    assert len(times) == 12
    assert all(before <= time <= after for time in times)
    assert str(batch.stats) == "15 delivered, 0 waiting, 0 refused, 0 dropped"
    [dataset] = client.list_datasets(["handbook"])
    assert dataset.display_name == "handbook"


def test_every_method_reports_what_it_says(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch(str(uuid.uuid4()), ["a"]) as batch:
        [doc] = batch.pending()
        with doc:
            doc.parsing()
            doc.step("pages", 3, 12)
            assert batch.flush(60)
            step = documents_of(client, batch)["a"].progress.step
            assert (step.name, step.completed, step.total) == ("pages", 3, 12)
            doc.cleaning()
            doc.splitting()
            doc.indexing(total=8)
            doc.progress(5)
            assert batch.flush(60)
            actual = documents_of(client, batch)["a"]
            assert actual.stage is Stage.INDEXING
            assert (actual.progress.completed_segments, actual.progress.total_segments) == (5, 8)
            assert actual.progress.step is None
            doc.progress(7, 9)
            assert list(doc.track(iter("xy"), total=2)) == ["x", "y"]
    assert batch.flush(60)
    actual = documents_of(client, batch)["a"]
    assert (actual.progress.completed_segments, actual.progress.total_segments) == (9, 9)
    assert actual.cleaning_complete_time is not None


def test_newest_counters_and_step_are_sent_in_one_report(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch("d", ["a"]) as batch:
        [doc] = batch.pending()
        with doc:
            doc.indexing()
            for number in range(1_000):
                doc.progress(number, 2_000)
                doc.step("pages", number)
    assert batch.flush(60)
    assert batch.stats.delivered < 100
    assert documents_of(client, batch)["a"].progress.completed_segments == 999


# Failures.


def _parse_badly(doc: stagecast.DocumentReporter) -> None:
    doc.parsing()
    b"\xff".decode("utf-8")


def test_exception_fails_the_document_with_its_class_and_goes_on_its_way(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    batch = reporter.batch("d", ["a", "b"])
    with pytest.raises(UnicodeDecodeError), batch, next(batch.pending()) as doc:
        _parse_badly(doc)
    assert batch.flush(60)
    documents = documents_of(client, batch)
    assert documents["a"].state is DocumentState.FAILED
    assert documents["a"].stage is Stage.PARSING
    assert documents["a"].error.reason == "UNICODE_DECODE_ERROR"
    assert documents["a"].error.message.startswith("'utf-8' codec can't decode byte 0xff")
    assert documents["b"].state is DocumentState.PENDING
    assert client.get_batch("d", batch.id).sealed


def test_pipeline_goes_on_after_an_exception_if_that_is_wanted(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch("d", ["a", "b", "c"], on_error="continue") as batch:
        for doc in batch.pending():
            with doc:
                doc.parsing()
                if doc.id == "b":
                    raise KeyError("nothing")
    assert client.wait("d", batch.id, timeout=60).state == "PARTIALLY_SUCCEEDED"
    error = documents_of(client, batch)["b"].error
    assert str(error) == "KEY_ERROR: 'nothing'"


def test_document_can_be_failed_by_hand(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch("d", ["a"]) as batch:
        for doc in batch.pending():
            with doc:
                doc.fail("no text!", "nothing but pictures")
                doc.splitting()
    assert client.wait("d", batch.id, timeout=60).state == "FAILED"
    assert str(documents_of(client, batch)["a"].error) == "NO_TEXT: nothing but pictures"
    assert batch.stats.refused == 0


def test_document_is_tried_again_in_another_attempt(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch("d", ["a"], on_error="continue") as batch:
        for doc in batch.pending():
            for attempt in range(3):
                with doc:
                    doc.parsing()
                    if attempt < 2:
                        raise OSError("again")
    assert client.wait("d", batch.id, timeout=60).state == "SUCCEEDED"
    actual = documents_of(client, batch)["a"]
    assert (actual.attempt, actual.state) == (3, "SUCCEEDED")
    kinds = [event.kind for event in client.history("d", batch.id, "a")]
    assert kinds.count(stagecast.TransitionKind.FAILED) == 2


def test_document_is_tried_again_through_another_object(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch("d", ["a"], on_error="continue") as batch:
        for _ in range(3):
            with batch.document("a") as doc:
                doc.parsing()
                raise OSError("again")
        with batch.document("a") as doc:
            doc.parsing()
    assert batch.flush(60)
    assert client.wait("d", batch.id, timeout=60).state == "SUCCEEDED"
    assert documents_of(client, batch)["a"].attempt == 4
    assert batch.stats.refused == batch.stats.dropped == 0
