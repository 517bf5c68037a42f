"""How batches are created, joined, run again and sealed."""

from __future__ import annotations

import threading

import pytest

import stagecast
from stagecast import Stage
from tests.client.reporting.background import Background, until
from tests.client.reporting.pipelines import work

pytestmark = pytest.mark.usefixtures("running")


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
