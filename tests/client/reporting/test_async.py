"""`AsyncReporter`, on the loop of the server."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import stagecast
from stagecast.app import App
from tests.conditions import until


@pytest.fixture
async def reporter(server: App) -> AsyncIterator[stagecast.AsyncReporter]:
    reporter = stagecast.AsyncReporter(server.grpc_address)
    yield reporter
    await asyncio.to_thread(reporter._engine.finish, 0)


@pytest.fixture
async def status(server: App) -> AsyncIterator[stagecast.AsyncClient]:
    async with stagecast.AsyncClient(server.grpc_address) as client:
        yield client


def _arguments_of(kind: type) -> dict[str, list[tuple[str, object, object]]]:
    """Return the arguments of public methods: the name of each, its kind and its default."""
    return {
        name: [(each.name, each.kind, each.default) for each in signature.parameters.values()]
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
        for signature in [inspect.signature(method)]
    }


@pytest.mark.parametrize(
    ("threads", "loops"),
    [
        (stagecast.Reporter, stagecast.AsyncReporter),
        (stagecast.BatchReporter, stagecast.AsyncBatchReporter),
        (stagecast.DocumentReporter, stagecast.AsyncDocumentReporter),
    ],
)
def test_both_kinds_have_the_same_methods_with_the_same_arguments(
    threads: type, loops: type
) -> None:
    assert _arguments_of(threads) == _arguments_of(loops)
    for name in _arguments_of(threads):
        assert inspect.getdoc(getattr(threads, name)), name
        assert inspect.getdoc(getattr(loops, name)), name
    assert inspect.signature(threads).parameters == inspect.signature(loops).parameters


async def test_pipeline_on_a_loop_reports_every_stage_and_counter(
    reporter: stagecast.AsyncReporter, status: stagecast.AsyncClient
) -> None:
    async def chunks() -> AsyncIterator[int]:
        for number in range(4):
            yield number

    async with reporter.batch("d", [Path("a"), "b"], on_error="continue") as batch:
        async for doc in batch.pending():
            async with doc:
                await doc.parsing()
                await doc.step("pages", 1, 2)
                await doc.cleaning()
                await doc.splitting()
                if doc.id == "b":
                    await doc.indexing(total=7)
                    await doc.progress(3)
                    raise OSError("full")
                assert [number async for number in doc.track(chunks(), total=4)] == [0, 1, 2, 3]
    assert await batch.flush(60)
    first, second = [each async for each in status.list_documents("d", batch.id)]
    assert (first.state, str(first.progress)) == ("SUCCEEDED", "4/4 segments")
    assert (second.state, second.progress.completed_segments) == ("FAILED", 3)
    assert str(second.error) == "OS_ERROR: full"
    assert batch.stats.dropped == batch.stats.refused == 0


async def test_tasks_share_a_batch_while_the_loop_goes_on(
    reporter: stagecast.AsyncReporter, status: stagecast.AsyncClient
) -> None:
    async def work(doc: stagecast.AsyncDocumentReporter) -> None:
        async with doc:
            async for _ in doc.track(range(10)):
                await asyncio.sleep(0)

    batch = reporter.batch("d", (str(number) for number in range(30)))
    async with batch, asyncio.TaskGroup() as group:
        async for doc in batch.pending():
            group.create_task(work(doc))
    assert await batch.flush(60)
    assert (await status.get_batch("d", batch.id)).counts.succeeded == 30


async def test_paused_task_waits_without_blocking_the_loop(
    reporter: stagecast.AsyncReporter, status: stagecast.AsyncClient
) -> None:
    reports = 0

    async def work() -> None:
        nonlocal reports
        async with doc:
            while not finished.is_set():
                await doc.progress(reports)
                reports += 1
                await asyncio.sleep(0)

    finished = asyncio.Event()
    async with reporter.batch("d", ["a"], stall_after=1) as batch:
        doc = await anext(batch.pending())
        working = asyncio.create_task(work())
        await until(lambda: bool(doc._document.attempt))
        await status.pause("d", batch.id)
        await until(lambda: doc._document.paused)
        await until(lambda: bool(reporter._engine.outbox._listeners))
        before = reports
        assert (await status.get_document("d", batch.id, "a")).state == "PAUSED"
        assert reports == before
        await status.resume("d", batch.id)
        await until(lambda: reports > before)
        finished.set()
        await working
    assert await batch.flush(60)
    assert (await status.get_batch("d", batch.id)).state == "SUCCEEDED"


async def test_stopped_task_leaves_its_block_and_a_cancelled_one_has_failed(
    reporter: stagecast.AsyncReporter, status: stagecast.AsyncClient
) -> None:
    async with reporter.batch("d", ["a", "b"], stall_after=1) as batch:
        documents = batch.pending()
        async with await anext(documents) as doc:
            await doc.parsing()
            assert await batch.flush(60)
            await status.stop("d", batch.id, "a")
            await until(lambda: doc.cancelled)
            await doc.splitting()
            raise AssertionError("not reached")

        async def wait() -> None:
            async with await anext(documents):
                entered.set()
                await asyncio.Event().wait()

        entered = asyncio.Event()
        waiting = asyncio.create_task(wait())
        await entered.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await batch.flush(60)
    first, second = [each async for each in status.list_documents("d", batch.id)]
    assert first.state == "STOPPED"
    assert second.error is not None
    assert second.error.reason == "CANCELLED_ERROR"


async def test_tasks_follow_a_batch(
    server: App, reporter: stagecast.AsyncReporter, status: stagecast.AsyncClient
) -> None:
    done: list[str] = []

    async def work(batch: stagecast.AsyncBatchReporter) -> None:
        async with batch:
            async for doc in batch.pending(follow=True):
                async with doc:
                    await asyncio.sleep(0)  # for the other worker
                    done.append(doc.id)

    ids = [str(number) for number in range(20)]
    other = stagecast.AsyncReporter(server.grpc_address)
    async with asyncio.timeout(120):
        await asyncio.gather(
            work(reporter.batch("d", ids, batch_id="b")), work(other.batch("d", batch_id="b"))
        )
    assert sorted(done) == sorted(ids)
    assert (await status.wait("d", "b", timeout=60)).counts.succeeded == 20
    await asyncio.to_thread(other._engine.finish, 0)


async def test_token_is_taken_up_on_a_loop(
    reporter: stagecast.AsyncReporter, status: stagecast.AsyncClient
) -> None:
    async with reporter.batch("d", ["a"]) as batch:
        token = batch.document("a").token
    async with reporter.attach(token) as doc:
        await doc.parsing()
    assert await batch.flush(60)
    assert (await status.wait("d", batch.id, timeout=60)).state == "SUCCEEDED"


async def test_strict_block_on_a_loop_raises_what_was_not_delivered(
    reporter: stagecast.AsyncReporter, status: stagecast.AsyncClient
) -> None:
    await status.create_batch("d", [], batch_id="b")
    with pytest.raises(stagecast.NotDelivered, match="no document 'x'"):
        async with reporter.batch("d", batch_id="b", strict=True) as batch, batch.document("x"):
            pass
