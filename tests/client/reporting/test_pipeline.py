"""What a pipeline reports while the server is there."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import stagecast
from stagecast import DocumentState, Stage
from tests.client.reporting.background import Background, until

pytestmark = pytest.mark.usefixtures("running")


def documents_of(client: stagecast.Client, batch: stagecast.BatchReporter) -> dict[str, Any]:
    """Return the documents of a batch by id."""
    documents = client.list_documents(batch.dataset_id, batch.id)
    return {document.document_id: document for document in documents}


def work(batch: stagecast.BatchReporter) -> list[str]:
    """Complete all pending documents, and return their ids."""
    ids = []
    for doc in batch.pending():
        with doc:
            doc.parsing()
        ids.append(doc.id)
    return ids


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


def test_labels_and_workers_that_are_no_texts_are_type_errors(
    reporter: stagecast.Reporter,
) -> None:
    wrong: Any = {"k": 1}
    with pytest.raises(TypeError, match=r"invalid labels {'k': 1}: 1 is no text"):
        reporter.batch("d", ["a"], labels=wrong)
    wrong = ["k"]
    with pytest.raises(TypeError, match="invalid labels"):
        reporter.batch("d", ["a"], labels=wrong)
    wrong = 7
    with pytest.raises(TypeError, match="invalid worker 7; use 1 to 256 printable"):
        stagecast.Reporter(worker=wrong)
    for worker in ("", "a\n", "x" * 257):
        with pytest.raises(ValueError, match="invalid worker"):
            stagecast.Reporter(worker=worker)


# Documents.


def test_documents_are_ids_paths_and_records(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    named = stagecast.NewDocument(document_id="c", display_name="Third", labels={"k": "v"})
    with reporter.batch("d", ["a", Path("in/b.md"), named, "a"]) as batch:
        assert work(batch) == ["a", "in/b.md", "c"]
    assert client.wait("d", batch.id, timeout=60).counts.total == 3
    assert documents_of(client, batch)["c"].display_name == "Third"


@pytest.mark.parametrize(
    ("documents", "sentence"),
    [
        ("in/a.md", r"documents is a single str, 'in/a.md'; use a list: \['in/a.md'\]"),
        (Path("a.md"), r"documents is a single PosixPath"),
        (7, "documents is 7, which cannot be iterated over; use ids or paths"),
        ([7], "invalid document 7; use an id, a path or a NewDocument"),
    ],
)
def test_what_are_no_documents_is_a_type_error(
    reporter: stagecast.Reporter, documents: Any, sentence: str
) -> None:
    with pytest.raises(TypeError, match=sentence):
        reporter.batch("d", documents)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_id": "a/b"}, "invalid batch_id 'a/b'; use 1 to 128 characters of"),
        ({"on_error": "stop"}, "invalid on_error 'stop'; use 'raise' or 'continue'"),
        ({"stall_on_no_progress": "10"}, "invalid stall_on_no_progress '10'; use a text such as"),
        ({"stall_after": -1}, "invalid stall_after -1; use a text such as 30s, 10m or 2h"),
        ({"stall_after": 1e30}, "invalid stall_after 1e\\+30; use a text such as 30s"),
        ({"labels": {"k": "\n"}}, "has characters that are not printable"),
    ],
)
def test_invalid_options_are_named(
    reporter: stagecast.Reporter, options: Any, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        reporter.batch("d", ["a"], **options)


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


# Batches.


def test_only_the_block_that_created_a_batch_seals_it(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch("d", ["a", "b"], batch_id="b") as first:
        documents = first.pending()
        with next(documents), reporter.batch("d", ["a", "b"], batch_id="b") as second:
            assert second.flush(60)
        assert second.flush(60)
        assert not client.get_batch("d", "b").sealed
        with next(documents):
            pass
    assert first.flush(60)
    assert client.get_batch("d", "b").sealed


def test_batch_of_a_run_that_died_is_sealed_by_the_next(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    client.create_batch("d", ["a", "b"], batch_id="b", more_documents_follow=True)
    client.report("d", "b", [stagecast.DocumentReport(document_id="a", stage=Stage.COMPLETED)])
    with reporter.batch("d", ["a", "b"], batch_id="b") as batch:
        assert batch.flush(60)
        assert work(batch) == ["b"]
    assert client.wait("d", "b", timeout=60).counts.succeeded == 2


def test_batch_is_sealed_after_an_exception(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with pytest.raises(ZeroDivisionError), reporter.batch("d", ["a"]) as batch:
        1 / 0  # noqa: B018 - it raises
    until(lambda: batch.flush(60))
    assert client.get_batch("d", batch.id).sealed


def test_run_again_leaves_out_what_has_succeeded(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch("d", ["a", "b", "c"], batch_id="b", on_error="continue") as batch:
        for doc in batch.pending():
            with doc:
                if doc.id == "b":
                    raise ValueError("first")
    assert client.wait("d", "b", timeout=60).state == "PARTIALLY_SUCCEEDED"
    with reporter.batch(
        "d",
        [
            "a",
            "b",
            "c",
        ],
        batch_id="b",
    ) as again:
        assert again.flush(60)
        assert work(again) == ["b"]
    assert again.flush(60)
    assert client.wait("d", "b", timeout=60).state == "SUCCEEDED"


def test_run_again_takes_what_was_left_open_or_stopped(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    client.create_batch("d", ["a", "b", "c"], batch_id="b")
    client.start_attempt("d", "b", "a", "dead")
    client.stop("d", "b", "b")
    with reporter.batch("d", batch_id="b") as batch:
        assert work(batch) == ["a", "b", "c"]
    assert client.wait("d", "b", timeout=60).state == "SUCCEEDED"
    assert batch.stats.refused == 0


def test_batch_that_exists_with_other_content_is_joined(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    client.create_batch("d", ["a"], batch_id="b", labels={"by": "hand"})
    with reporter.batch("d", ["a"], batch_id="b") as batch:
        assert work(batch) == ["a"]
    assert client.wait("d", "b", timeout=60).state == "SUCCEEDED"


def test_batch_that_is_joined_before_it_is_created_is_waited_for(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch("d", batch_id="b") as batch:
        assert not batch.flush(0.5)
        client.create_batch("d", ["a"], batch_id="b")
        assert batch.flush(60)
        assert work(batch) == ["a"]
    assert client.wait("d", "b", timeout=60).state == "SUCCEEDED"


def test_threads_share_a_batch(reporter: stagecast.Reporter, client: stagecast.Client) -> None:
    def report(doc: stagecast.DocumentReporter) -> None:
        with doc:
            for number in doc.track(range(50)):
                doc.step("pages", number)

    with reporter.batch("d", [f"doc-{number}" for number in range(20)]) as batch:
        threads = [threading.Thread(target=report, args=[doc]) for doc in batch.pending()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    actual = client.wait("d", batch.id, timeout=60)
    assert actual.counts.succeeded == 20
    assert actual.progress == stagecast.Progress(completed_segments=1000, total_segments=1000)
    assert batch.flush(60)
    assert batch.stats.dropped == batch.stats.refused == 0


# Strict.


def test_strict_block_waits_and_raises_what_was_not_delivered(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch("d", ["a"], strict=True) as batch:
        work(batch)
    assert client.get_batch("d", batch.id).state == "SUCCEEDED"
    client.create_batch("d", [], batch_id="b")
    with (
        pytest.raises(stagecast.NotDelivered, match="no document 'x'") as caught,
        reporter.batch("d", batch_id="b", strict=True) as other,
        other.document("x"),
    ):
        pass
    assert caught.value.batch_id == "b"


def test_strict_report_after_something_was_lost_raises(
    reporter: stagecast.Reporter, client: stagecast.Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.create_batch("d", [], batch_id="b")
    batch = reporter.batch("d", batch_id="b", strict=True)
    doc = batch.document("x")
    doc.parsing()
    with pytest.raises(stagecast.NotDelivered):
        batch.flush(60)
    with pytest.raises(stagecast.NotDelivered):
        doc.splitting()
    with pytest.raises(ValueError, match="invalid document ''"):
        batch.document("")
    assert not caplog.messages


def test_shortcut_uses_the_server_of_the_environment(
    running: Background, client: stagecast.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGECAST_GRPC", running.address)
    with stagecast.batch("d", ["a"]) as batch:
        assert work(batch) == ["a"]
    assert batch.flush(60)
    assert client.get_batch("d", batch.id).state == "SUCCEEDED"
    assert repr(batch) == f"BatchReporter({batch.dataset_id!r}, {batch.id!r})"
