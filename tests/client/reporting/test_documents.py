"""Which documents a pipeline can report on, and what they need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stagecast
from stagecast import DocumentState
from tests.client.reporting.background import Background
from tests.client.reporting.pipelines import documents_of, work

pytestmark = pytest.mark.usefixtures("running")


def test_documents_are_ids_paths_and_records(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    named = stagecast.NewDocument(document_id="c", display_name="Third", labels={"k": "v"})
    with reporter.batch("d", ["a", Path("in/b.md"), named, "a"]) as batch:
        assert work(batch) == ["a", "in/b.md", "c"]
    assert client.wait("d", batch.id, timeout=60).counts.total == 3
    assert documents_of(client, batch)["c"].display_name == "Third"


def test_iterators_are_drawn_a_page_at_a_time_and_registered_as_they_are(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    drawn = 0

    def crawl() -> Iterator[str]:
        nonlocal drawn
        for number in range(250):
            drawn += 1
            yield f"page-{number}"

    with reporter.batch("d", crawl()) as batch:
        documents = batch.pending()
        with next(documents):
            assert drawn == 100
        for doc in documents:
            with doc:
                pass
    actual = client.wait("d", batch.id, timeout=60)
    assert (actual.counts.succeeded, actual.counts.total) == (250, 250)


def test_documents_are_registered_once(
    absent: Background, reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    absent.stop()
    with reporter.batch("d", (str(number) for number in range(150))) as batch:
        assert len(work(batch)) == 150
        assert len(batch._core.queue.unregistered) == 150
    absent.start()
    assert batch.flush(60)
    assert client.wait("d", batch.id, timeout=60).counts.succeeded == 150


def test_invalid_id_is_worked_on_and_counted(
    reporter: stagecast.Reporter, client: stagecast.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with reporter.batch("d", ["a", "b\nc"]) as batch:
        assert work(batch) == ["a", "b\nc"]
    assert client.wait("d", batch.id, timeout=60).counts.total == 1
    assert batch.stats.dropped == 2
    [warning] = caplog.messages
    assert r"document 'b\nc': it has characters that are not printable" in warning


def test_invalid_values_do_not_stop_the_work_or_other_reports(
    reporter: stagecast.Reporter, client: stagecast.Client, caplog: pytest.LogCaptureFixture
) -> None:
    class Unsized(list[int]):
        def __len__(self) -> int:
            raise TypeError("no length")

    counts: list[Any] = ["3", 2.5, -1, 2**70, None]
    named = stagecast.NewDocument(document_id="n", labels={"k": 1})  # type: ignore[dict-item]  # on purpose
    odd = stagecast.NewDocument(document_id="o", display_name="\udcff")
    with reporter.batch("d", ["a", named, odd]) as batch:
        for doc in batch.pending():
            with doc:
                doc.parsing()
                for count in counts:
                    doc.progress(count)
                    doc.step("pages", count, count)
                    doc.indexing(total=count)
                doc.step("two\nlines\udcff", 1, 0)
                doc.step("", 1)
                assert len([*doc.track(Unsized([1, 2, 3]), total=2)]) == 3
    assert batch.flush(60)
    actual = documents_of(client, batch)
    assert actual.keys() == {"a"}
    assert actual["a"].state is DocumentState.SUCCEEDED
    assert actual["a"].progress.completed_segments == 3
    [warning] = caplog.messages
    assert "document 'a': invalid counter '3'; use whole numbers" in warning


def test_failure_by_hand_takes_an_exception_as_its_message(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    class OddError(Exception):
        def __str__(self) -> str:
            raise ValueError

    with reporter.batch("d", ["a", "b"]) as batch:
        for doc, error in zip(batch.pending(), (OSError("no disk"), OddError()), strict=True):
            with doc:
                doc.fail("READ", error)  # type: ignore[arg-type]  # as people do
    assert batch.flush(60)
    errors = [str(document.error) for document in documents_of(client, batch).values()]
    assert errors == ["READ: no disk", "READ"]


def test_batch_that_was_not_used_has_nothing_to_wait_for(reporter: stagecast.Reporter) -> None:
    assert reporter.batch("d", ["a"]).flush(0)


def test_documents_of_others_are_read_anew_and_yielded_once(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    client.create_batch("d", ["a"], batch_id="b", more_documents_follow=True)
    with reporter.batch("d", batch_id="b") as batch:
        assert [doc.id for doc in batch.pending()] == ["a"]
        client.add_documents("d", "b", ["c"])
        assert [doc.id for doc in batch.pending()] == ["a", "c"]
        assert [doc.id for doc in batch.pending()] == ["a", "c"]


def test_document_that_is_not_known_yet_is_registered(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch("d") as batch:
        for number in range(3):
            with batch.document(f"page-{number}") as doc:
                doc.parsing()
    assert batch.flush(60)
    assert client.wait("d", batch.id, timeout=60).counts.succeeded == 3


def test_document_that_a_sealed_batch_does_not_know_is_undelivered(
    reporter: stagecast.Reporter, client: stagecast.Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.create_batch("d", ["a"], batch_id="b")
    with reporter.batch("d", batch_id="b") as batch:
        for name in ("x", "a", "y"):
            with batch.document(name) as doc:
                doc.parsing()
    assert batch.flush(60)
    assert client.wait("d", batch.id, timeout=60).state == "SUCCEEDED"
    assert (batch.stats.delivered, batch.stats.dropped) == (2, 4)
    [warning] = caplog.messages
    assert "reports of batch b could not be delivered: document 'x': no document 'x'" in warning
