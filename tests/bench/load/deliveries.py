"""Deliveries in a second: reports on a watched batch, in calls of so many, as fast as they go."""

from __future__ import annotations

import asyncio
import time

from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import status_service_pb2 as s
from tests.bench.load.batches import make_work
from tests.bench.load.calls import REPORT, WATCH
from tests.bench.load.http2 import CallFailedError, Stream, open_connections
from tests.bench.load.in_flight import drive, watching

WATCHES = 100

_TIMEOUT_S = 120


class Deliveries:
    """Reports on a batch with 100 watches, to its end, and measures the rate of deliveries."""

    def __init__(
        self, address: str, seconds: float, *, in_flight: int, per_call: int, connections: int
    ) -> None:
        self._address = address
        self._seconds = seconds
        self._in_flight = in_flight
        self._per_call = per_call
        self._connections = connections
        # A stage of all documents needs more calls than are in flight.
        self._min_documents = 2 * in_flight * per_call
        self._documents = 0

    async def measure(self) -> float:
        """Return the deliveries in a second, until the last watch has received everything."""
        documents = max(self._min_documents, self._documents) // self._per_call * self._per_call
        async with open_connections(self._address, self._connections) as calling:
            work = await make_work(calling[0], documents)
            requests = list(work.by_stage(self._per_call))
            async with watching(
                self._address, WATCH, work.watch(), WATCHES, connections=self._connections
            ) as streams:
                await streams.expect_messages(1)
                ended = streams.expect(lambda stream: stream.ended)
                began = time.perf_counter()
                async with asyncio.timeout(_TIMEOUT_S):
                    answers = await drive(calling, REPORT, requests, in_flight=self._in_flight)
                    elapsed_s = await ended - began
                first = streams.all[0]
        # A report that is overtaken makes no transition; with several processes that may happen.
        revision = max(rs.ReportResponse.FromString(answer).revision for answer in answers)
        _check_complete(first, revision)
        self._documents = round(documents * self._seconds / elapsed_s)
        return (revision - work.revision) * WATCHES / elapsed_s


def _check_complete(stream: Stream, revision: int) -> None:
    """Check that a watch has received everything before it ended."""
    received = s.WatchBatchResponse.FromString(stream.last).revision
    if received != revision:
        raise CallFailedError.of(f"a watch at {received} of {revision}", stream)
