"""A server that is absent, killed, slow or never there, and what is lost then."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import stagecast
from stagecast.client.reporting import outbox as module
from tests.client.reporting.background import Background, until
from tests.process import ServerProcess, free_address

IDS = [f"doc-{number}" for number in range(10)]


def work(batch: stagecast.BatchReporter) -> None:
    """Complete all pending documents, with counters."""
    for doc in batch.pending():
        with doc:
            doc.parsing()
            for _ in doc.track(range(5)):
                pass


def check(client: stagecast.Client, batch: stagecast.BatchReporter, before_s: float) -> None:
    """Check that everything arrived with the time at which it happened."""
    assert client.wait("d", batch.id, timeout=60).counts.succeeded == 10
    assert str(batch.stats) == "40 delivered, 0 waiting, 0 refused, 0 dropped"
    times = [event.event_time for event in client.history("d", batch.id) if event.event_time]
    assert len(times) == 30
    assert max(times).timestamp() < before_s


@pytest.mark.usefixtures("caplog")
def test_server_that_is_absent_at_the_start_gets_everything_later(
    absent: Background,
    reporter: stagecast.Reporter,
    client: stagecast.Client,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with reporter.batch("d", IDS) as batch:
        work(batch)
    before_s = time.time()
    assert batch.stats.waiting == 40
    assert not batch.flush(0)
    absent.start()
    assert batch.flush(60)
    check(client, batch, before_s)
    assert not caplog.messages


def test_server_that_stops_in_between_gets_everything_later(
    running: Background, reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch("d", IDS) as batch:
        documents = batch.pending()
        with next(documents) as doc:
            doc.parsing()
            assert batch.flush(60)
            running.stop()
            for _ in doc.track(range(5)):
                pass
        for doc in documents:
            with doc:
                doc.parsing()
                for _ in doc.track(range(5)):
                    pass
    before_s = time.time()
    running.start()
    assert batch.flush(60)
    check(client, batch, before_s)


@pytest.mark.slow
def test_killed_server_gets_everything_once_it_is_back(
    tmp_path: Path, client: stagecast.Client
) -> None:
    address = free_address()

    async def serve(kill: asyncio.Event, killed: threading.Event, finish: asyncio.Event) -> None:
        server = await ServerProcess.start(tmp_path / "s.db", grpc=address)
        up.set()
        await kill.wait()
        await server.kill()
        killed.set()
        server = await ServerProcess.start(tmp_path / "s.db", grpc=address)
        await finish.wait()
        await server.stop()

    up, killed = threading.Event(), threading.Event()
    loop = asyncio.new_event_loop()
    kill, finish = asyncio.Event(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=[serve(kill, killed, finish)])
    thread.start()
    assert up.wait(240)
    reporter = stagecast.Reporter(address)
    with reporter.batch("d", IDS) as batch:
        documents = batch.pending()
        for number, doc in enumerate(documents):
            with doc:
                doc.parsing()
                if number == 3:
                    assert batch.flush(60)
                    loop.call_soon_threadsafe(kill.set)
                    assert killed.wait(60)
                for _ in doc.track(range(5)):
                    pass
    before_s = time.time()
    assert batch.flush(240)
    with stagecast.Client(address) as other:
        check(other, batch, before_s)
    loop.call_soon_threadsafe(finish.set)
    thread.join()
    loop.close()
    reporter.close()


def test_server_that_holds_its_answers_back_does_not_hold_up_the_work(
    running: Background, client: stagecast.Client
) -> None:
    with running.proxied() as proxy:
        reporter = stagecast.Reporter(proxy.address)
        with reporter.batch("d", IDS) as batch:
            documents = batch.pending()
            assert batch.flush(60)
            proxy.hold()
            for doc in documents:
                with doc:
                    doc.parsing()
                    for _ in doc.track(range(5)):
                        pass
        before_s = time.time()
        assert batch.stats.delivered == 0
        proxy.let_go()
        assert batch.flush(60)
        check(client, batch, before_s)
        reporter._engine.finish(0)


def test_call_that_a_fork_has_cancelled_is_made_again(
    running: Background, client: stagecast.Client
) -> None:
    with running.proxied() as proxy:
        reporter = stagecast.Reporter(proxy.address)
        engine = reporter._engine
        with reporter.batch("d", ["a"]) as batch:
            [doc] = batch.pending()
            assert batch.flush(60)
            proxy.hold()
            with doc:
                doc.parsing()
            until(lambda: engine._sender._calls)
            engine.hold()
            assert not engine._sender._calls
            engine.release()
            proxy.let_go()
        assert batch.flush(60)
        assert client.get_batch("d", batch.id).state == "SUCCEEDED"
        engine.finish(0)


@pytest.mark.slow
def test_pending_waits_for_a_server_only_once_and_not_for_long(
    running: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []
    with running.proxied() as proxy:
        proxy.hold()
        reporter = stagecast.Reporter(proxy.address)
        engine = reporter._engine
        real = engine.wait

        def wait(holds: Callable[[], bool], timeout_s: float | None) -> bool:
            waits.append(timeout_s)
            return real(holds, timeout_s)

        monkeypatch.setattr(engine, "wait", wait)
        with reporter.batch("d", IDS) as batch:
            assert len(list(batch.pending())) == 10
            assert len(list(batch.pending())) == 10
        proxy.let_go()
        assert waits == [0.2, 2.0]
        engine.finish(0)


def test_work_finishes_without_any_server_and_says_so_once(
    absent: Background, reporter: stagecast.Reporter, caplog: pytest.LogCaptureFixture
) -> None:
    with reporter.batch("d", IDS) as batch:
        work(batch)
        assert len(list(batch.pending(follow=True))) == 0
    assert not caplog.messages
    reporter._engine.finish(0)
    assert str(batch.stats) == "0 delivered, 0 waiting, 0 refused, 40 dropped"
    [warning] = caplog.messages
    assert warning.startswith(f"reports of batch {batch.id} could not be delivered: cannot reach")
    assert "connection refused; is a server running there?" in warning


def test_documents_are_followed_without_any_server(
    absent: Background, reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    worked = []
    with reporter.batch("d", iter(IDS)) as batch:
        for doc in batch.pending(follow=True):
            with doc:
                worked.append(doc.id)
    assert worked == IDS
    absent.start()
    assert batch.flush(60)
    assert client.wait("d", batch.id, timeout=60).counts.succeeded == 10


@pytest.mark.parametrize("strict", [False, True])
def test_full_buffer_drops_and_counts(
    strict: bool,
    absent: Background,
    client: stagecast.Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 6)
    reporter = stagecast.Reporter(absent.address)
    batch = reporter.batch("d", IDS, strict=strict)

    def report() -> Iterator[str]:
        with batch:
            for doc in batch.pending():
                with doc:
                    doc.parsing()
                    yield doc.id

    if strict:
        with pytest.raises(stagecast.NotDelivered, match="the buffer is full"):
            list(report())
        assert not caplog.messages
    else:
        assert list(report()) == IDS
        [warning] = caplog.messages
        assert "the buffer is full (batch.stats has the numbers)" in warning
        assert str(batch.stats) == "0 delivered, 6 waiting, 0 refused, 14 dropped"
        absent.start()
        assert batch.flush(60)
        counts = client.get_batch("d", batch.id).counts
        assert (counts.succeeded, counts.pending) == (3, 7)
    reporter._engine.finish(0)


def test_takeover_or_success_while_the_server_was_away_is_not_undone(
    running: Background, reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    with reporter.batch("d", ["a", "b", "c"], batch_id="b") as batch:
        documents = list(batch.pending())
        assert batch.flush(60)
        running.stop()
        with documents[0] as doc:
            doc.parsing()
        until(lambda: reporter._engine.outbox.offline)
        for doc in documents[1:]:
            with doc:
                doc.parsing()
        with stagecast.Client(running.address) as other:
            sender = reporter._engine._sender
            sender.hold()
            running.start()
            other.start_attempt("d", "b", "a", "other")
            done = stagecast.DocumentReport(document_id="b", stage=stagecast.Stage.COMPLETED)
            other.report("d", "b", [done])
            sender.release()
    assert batch.flush(60)
    actual = {document.document_id: document for document in client.list_documents("d", "b")}
    assert (actual["a"].worker, actual["a"].state, actual["a"].attempt) == ("other", "RUNNING", 1)
    assert (actual["b"].state, actual["b"].attempt) == ("SUCCEEDED", 1)
    assert actual["c"].state == "SUCCEEDED"
    assert [doc.cancelled for doc in documents] == [True, True, False]
    assert (batch.stats.refused, batch.stats.dropped) == (4, 0)


def test_credentials_that_are_refused_do_not_stop_the_work(
    running: Background, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from stagecast.errors import CredentialsInvalid

    reporter = stagecast.Reporter(running.address)
    job_error = CredentialsInvalid("the key is not known")
    monkeypatch.setattr(reporter._engine._sender, "_call", lambda calls: [job_error for _ in calls])
    with reporter.batch("d", IDS) as batch:
        work(batch)
    assert not batch.flush(60)
    assert batch.stats.dropped == 80  # nothing waits, so no counters merge
    [warning] = caplog.messages
    assert "the key is not known" in warning
    reporter.close()
