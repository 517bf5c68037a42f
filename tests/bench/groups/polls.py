"""Polls of the two REST paths, beside a bare route that answers as many bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

from stagecast.rest import DATASETS_STATUS_PATH, INDEXING_STATUS_PATH
from tests.bench.floors import grpc_server, http_server
from tests.bench.group import Part
from tests.bench.load.batches import Work, make_work, report_half
from tests.bench.load.calls import REPORT
from tests.bench.load.h2load import H2Load
from tests.bench.load.http1 import Answer, polling
from tests.bench.load.http2 import Connection, call, open_connection
from tests.bench.rounds import Repeated, Stopwatch, cpu_pairs, interleave
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row
from tests.process import ServerProcess
from tests.watches.pipeline import STAGES

_DOCUMENTS = 5
_REQUEST_BYTES = 70  # a report has about as many


def _cached(what: str) -> Figure:
    return Figure(
        name=f"REST, answer cached, {what}, CPU",
        unit="µs",
        against="bare Starlette route",
        must=1.25,
        beyond=1.1,
    )


_ONE_ID = _cached("one id")
_FIVE_DOCUMENTS = _cached("5 documents")
_UNCHANGED = _cached("304")
_FIRST = Figure(
    name="REST, one id, the first poll after a report on it, less the report, CPU",
    unit="µs",
    against="bare Starlette route, one connection",
    must=2.5,
    beyond=1.6,
)
_AFTER_CALL = Figure(
    name="The same, beside a poll that follows a call, less the call, CPU",
    unit="µs",
    against="bare Starlette route after an aio echo of the same process",
)


async def _measure_cached(bench: Bench) -> AsyncIterator[Row]:
    h2load = H2Load(bench.directory)
    async with bench.stagecast("polls") as server, bench.floor("http_server") as floor:
        async with open_connection(server.grpc) as connection:
            work = await make_work(connection, _DOCUMENTS)
            await report_half(connection, work)

        async def compare(target: str, route: str, *headers: str) -> Sequence[tuple[float, float]]:
            answer = await _poll_once(server.http, target, *headers)
            address = await floor.ask(size=len(answer.body))
            ours = Repeated(
                server.process.pid,
                bench.effort.seconds,
                partial(h2load.poll, server.http, target, headers),
            )
            theirs = Repeated(
                floor.pid, bench.effort.seconds, partial(h2load.poll, address, route, headers)
            )
            return cpu_pairs(await interleave(bench.effort.rounds, ours.measure, theirs.measure))

        one_id = one_id_target(work)
        yield _ONE_ID.row(await compare(one_id, http_server.BODY))
        five = INDEXING_STATUS_PATH.format(dataset_id=work.dataset_id, batch=work.batch_id)
        yield _FIVE_DOCUMENTS.row(await compare(five, http_server.BODY))
        condition = f"If-None-Match: {(await _poll_once(server.http, one_id)).etag}"
        yield _UNCHANGED.row(await compare(one_id, http_server.UNCHANGED, condition))


def one_id_target(work: Work) -> str:
    """Return the target of a poll of the batch's dataset alone."""
    return f"{DATASETS_STATUS_PATH}?dataset={work.dataset_id}"


async def _poll_once(address: str, target: str, *headers: str) -> Answer:
    async with polling(address, target, *headers) as poller:
        answer = await poller.poll()
    if answer.status not in (200, 304):
        raise AssertionError(f"{target} was answered with {answer}")
    return answer


async def _measure_first(bench: Bench) -> AsyncIterator[Row]:
    polls = bench.effort.choose(quick=200, full=1_000)
    async with bench.stagecast("first") as server, bench.floor("both_servers") as floor:
        async with open_connection(server.grpc) as connection:
            work = await make_work(connection, 1)
        answer = await _poll_once(server.http, one_id_target(work))
        addresses = await floor.ask(size=len(answer.body))

        async def ours() -> float:
            with_polls = await _report_and_poll(server, polls, poll=True)
            return with_polls - await _report_and_poll(server, polls, poll=False)

        async def theirs() -> tuple[float, float]:
            only_polls, both, only_calls = [
                await _call_and_poll(
                    floor.pid, addresses, polls, with_call=with_call, with_poll=with_poll
                )
                for with_call, with_poll in ((False, True), (True, True), (True, False))
            ]
            return only_polls, both - only_calls

        samples = await interleave(bench.effort.rounds, ours, theirs)
        yield _FIRST.row((mine, in_a_row) for mine, (in_a_row, _) in samples)
        yield _AFTER_CALL.row((mine, after_call) for mine, (_, after_call) in samples)


async def _call_and_poll(
    pid: int, addresses: dict[str, str], count: int, *, with_call: bool, with_poll: bool
) -> float:
    """Return the microseconds of CPU of a call of the floor, and of a poll after it."""
    async with (
        open_connection(addresses["grpc"]) as connection,
        polling(addresses["http"], http_server.BODY) as poller,
    ):
        stopwatch = Stopwatch(pid)
        for _ in range(count):
            if with_call:
                await call(connection, grpc_server.ECHO, bytes(_REQUEST_BYTES))
            if with_poll:
                await poller.poll()
        return stopwatch.stop(count).cpu_us


async def _report_and_poll(server: ServerProcess, reports: int, *, poll: bool) -> float:
    """Return the microseconds of CPU of a report, and of the first poll after it."""
    async with open_connection(server.grpc) as connection:
        work = await make_work(connection, -(-reports // len(STAGES)))
        requests = list(work.by_stage(1))
        return await report_and_poll(server, connection, work, requests, poll=poll)


async def report_and_poll(
    server: ServerProcess,
    connection: Connection,
    work: Work,
    requests: Sequence[bytes],
    *,
    poll: bool,
) -> float:
    """Send reports one by one, each followed by a poll or not; return the CPU of one, in µs."""
    async with polling(server.http, one_id_target(work)) as poller:
        await poller.poll()
        stopwatch = Stopwatch(server.process.pid)
        for request in requests:
            await call(connection, REPORT, request)
            if poll:
                await poller.poll()
        return stopwatch.stop(len(requests)).cpu_us


PARTS = (
    Part(figures=(_ONE_ID, _FIVE_DOCUMENTS, _UNCHANGED), measure=_measure_cached),
    Part(figures=(_FIRST, _AFTER_CALL), measure=_measure_first),
)
