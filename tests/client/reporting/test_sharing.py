"""Workers that follow a batch and share it."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace

import pytest

import stagecast
from stagecast import Stage
from stagecast.client.reporting.follower import Follower
from stagecast.client.reporting.sharing import Sharing
from tests.client.reporting.background import Background, until
from tests.conditions import until as wait_until

pytestmark = pytest.mark.usefixtures("running")


class Worker:
    """A worker on a thread with a reporter of its own, or a shared one.

    Attributes:
        done: the ids of documents that it has worked on.
        batch: its batch.
    """

    def __init__(self, batch: stagecast.BatchReporter, step: Callable[[], object]) -> None:
        self.batch = batch
        self._step = step
        self.done: list[str] = []
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        with self.batch as batch:
            for doc in batch.pending(follow=True):
                with doc:
                    doc.parsing()
                    self._step()
                    self.done.append(doc.id)

    @property
    def over(self) -> bool:
        """Whether it has left the batch."""
        return not self._thread.is_alive()


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True], ids=["two reporters", "one reporter"])
def test_two_workers_share_a_batch_and_do_nothing_twice(
    shared: bool,
    running: Background,
    reporter: stagecast.Reporter,
    client: stagecast.Client,
) -> None:
    ids = [f"doc-{number}" for number in range(60)]
    name = uuid.uuid4().hex
    both = threading.Barrier(2)
    other = reporter if shared else stagecast.Reporter(running.address)
    working = threading.Event()

    def meet() -> None:
        if not working.is_set():
            both.wait(60)
            working.set()

    workers = [
        Worker(reporter.batch("d", ids, batch_id=name), meet),
        Worker(other.batch("d", batch_id=name), meet),
    ]
    until(lambda: all(worker.over for worker in workers))
    first, second = workers
    assert sorted(first.done + second.done) == sorted(ids)
    assert first.done
    assert second.done
    assert client.wait("d", name, timeout=60).counts.succeeded == 60
    assert all(document.attempt == 1 for document in client.list_documents("d", name))
    for worker in workers:
        assert worker.batch.flush(60)
        assert worker.batch.stats.refused == worker.batch.stats.dropped == 0
    other.close()


def test_follower_gets_what_is_added_and_retried_until_the_batch_is_over(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    client.create_batch("d", ["a"], batch_id="b", more_documents_follow=True)
    worker = Worker(reporter.batch("d", batch_id="b"), lambda: None)
    until(lambda: worker.done == ["a"])
    client.add_documents("d", "b", ["c"])
    until(lambda: worker.done == ["a", "c"])
    until(lambda: client.get_document("d", "b", "a").state.terminal)
    client.retry("d", "b", "a")
    until(lambda: worker.done == ["a", "c", "a"])
    assert not worker.over
    client.seal_batch("d", "b")
    until(lambda: worker.over)
    assert client.wait("d", "b", timeout=60).counts.succeeded == 2
    assert client.get_document("d", "b", "a").attempt == 2


@pytest.mark.slow
def test_block_that_submits_follows_until_all_have_ended(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    failed: list[str] = []
    ids = (f"doc-{number}" for number in range(150))
    with reporter.batch("d", ids, on_error="continue") as batch:
        for doc in batch.pending(follow=True):
            with doc:
                if doc.id == "doc-7" and not failed:
                    failed.append(doc.id)
                    raise OSError("once")
            if doc.id in failed:
                failed.append("retried")
                assert batch.flush(60)
                if failed.count("retried") == 1:
                    client.retry("d", batch.id, "doc-7")
    assert failed == ["doc-7", "retried", "retried"]
    assert client.wait("d", batch.id, timeout=60).counts.succeeded == 150


def test_follower_waits_for_what_others_have(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    client.create_batch("d", ["a", "b"], batch_id="b")
    client.start_attempt("d", "b", "a", "other")
    worker = Worker(reporter.batch("d", batch_id="b"), lambda: None)
    until(lambda: worker.done == ["b"])
    until(lambda: client.get_document("d", "b", "b").state.terminal)
    assert not worker.over
    client.report("d", "b", [stagecast.DocumentReport(document_id="a", stage=Stage.COMPLETED)])
    until(lambda: worker.over)
    assert worker.done == ["b"]
    assert client.get_document("d", "b", "a").worker == "other"


def test_paused_document_is_claimed_once_it_is_resumed(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    client.create_batch("d", ["a"], batch_id="b")
    client.pause("d", "b")
    worker = Worker(reporter.batch("d", batch_id="b"), lambda: None)
    assert worker.batch.flush(60)
    client.resume("d", "b")
    until(lambda: worker.over)
    assert worker.done == ["a"]
    assert client.get_batch("d", "b").counts.succeeded == 1


def test_named_worker_shares_a_batch_with_itself(
    running: Background, client: stagecast.Client
) -> None:
    reporter = stagecast.Reporter(running.address, worker="one")
    client.create_batch("d", [f"doc-{number}" for number in range(20)], batch_id="b")
    workers = [Worker(reporter.batch("d", batch_id="b"), lambda: None) for _ in range(2)]
    until(lambda: all(worker.over for worker in workers))
    assert len([*workers[0].done, *workers[1].done]) == 20
    names = {document.worker for document in client.list_documents("d", "b")}
    assert names <= {"one", "one-2"}
    reporter._engine.finish(0)


def test_documents_that_the_server_does_not_take_are_worked_on_all_the_same(
    reporter: stagecast.Reporter, client: stagecast.Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.create_batch("d", ["a"], batch_id="b")
    worked = []
    with reporter.batch("d", ["a", "bad\n", "late"], batch_id="b") as batch:
        for doc in batch.pending(follow=True):
            with doc:
                worked.append(doc.id)
    assert sorted(worked) == ["a", "bad\n", "late"]
    assert batch.flush(60)
    assert client.wait("d", "b", timeout=60).counts.succeeded == 1
    assert batch.stats.dropped == 2
    assert len(caplog.messages) == 1


def test_follower_of_a_batch_without_documents_ends(reporter: stagecast.Reporter) -> None:
    with reporter.batch("d", []) as batch:
        assert list(batch.pending(follow=True)) == []


def followers() -> list[threading.Thread]:
    """Return the threads that follow a batch."""
    return [thread for thread in threading.enumerate() if thread.name == "stagecast-follower"]


def test_nobody_follows_a_batch_that_was_left_while_the_server_is_away(
    reporter: stagecast.Reporter, client: stagecast.Client, running: Background
) -> None:
    client.create_batch("d", ["a"], batch_id="b", more_documents_follow=True)
    with reporter.batch("d", batch_id="b") as batch:
        for _ in batch.pending(follow=True):
            [follower] = followers()
            running.stop()
            break
    until(lambda: not follower.is_alive())


def test_follower_that_was_closed_before_it_began_ends(
    reporter: stagecast.Reporter, running: Background
) -> None:
    running.stop()
    with reporter.batch("d", []) as batch:
        follower = Follower(batch._core.engine, batch._core.options)
        follower.close()
        follower.start()
        until(lambda: follower.over)


async def test_claim_whose_task_was_cancelled_is_taken_back(
    running: Background, client: stagecast.Client
) -> None:
    with running.proxied() as proxy:
        reporter = stagecast.AsyncReporter(proxy.address)
        sender = reporter._engine._sender
        async with reporter.batch("d", ["a", "b"], batch_id="b") as batch:
            documents = batch.pending(follow=True)
            async with await anext(documents) as doc:
                proxy.hold()
                await doc.parsing()
                await wait_until(lambda: bool(sender._calls))  # so the claim waits for its turn
                claiming = asyncio.ensure_future(anext(documents))
                queues = batch._core.queue.documents
                await wait_until(lambda: any(queue.start for queue in queues))
                claiming.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await claiming
                proxy.let_go()
        assert await batch.flush(60)
        states = [document.state for document in client.list_documents("d", "b")]
        assert states == ["SUCCEEDED", "PENDING"]
        await asyncio.to_thread(reporter._engine.finish, 0)


def test_batch_is_not_over_while_its_watch_is_behind_the_reports(
    reporter: stagecast.Reporter,
) -> None:
    with reporter.batch("d", ["a"]) as batch:
        for doc in batch.pending():
            with doc:
                pass
        assert batch.flush(60)
        with Sharing(batch._core) as sharing:
            follower, queue = sharing._follower, batch._core.queue
            while sharing._draw():
                pass
            follower.unclaimed.clear()
            follower.revision = queue.revision - 1
            assert not sharing.over()
            follower.revision = queue.revision
            assert sharing.over()


def test_another_snapshot_replaces_what_was_pending(
    reporter: stagecast.Reporter, client: stagecast.Client
) -> None:
    client.create_batch("d", ["a", "b"], batch_id="b")
    watch = client.watch("d", "b")
    snapshot = next(watch)
    assert isinstance(snapshot, stagecast.Snapshot)
    with reporter.batch("d", batch_id="b") as batch:
        follower = Follower(batch._core.engine, batch._core.options)
        follower._take(snapshot, watch)
        assert [*follower.pending] == ["a", "b"]
        follower._take(replace(snapshot, documents=snapshot.documents[1:]), watch)
        assert [*follower.pending] == ["b"]
    watch.close()
