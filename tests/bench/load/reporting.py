"""Reports as load: as many as fit the time, on new documents."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.load.batches import check_applied, make_work
from tests.bench.load.calls import REPORT
from tests.bench.load.http2 import Connection
from tests.bench.load.in_flight import drive
from tests.bench.rounds import Sample, Stopwatch
from tests.watches.pipeline import STAGES

_MAX_DOCUMENTS = 20_000


class Reporting:
    """Sends reports in calls of so many, with so many calls in flight."""

    def __init__(
        self, pid: int, connections: Sequence[Connection], *, in_flight: int, per_call: int
    ) -> None:
        self._pid = pid
        self._connections = connections
        self._in_flight = in_flight
        self._per_call = per_call
        self._expected = 1_000  # reports in a sample

    async def measure(self, seconds: float) -> Sample:
        """Report on a batch until the time is over."""
        # A stage of all documents needs more calls than are in flight.
        documents = max(2 * self._in_flight * self._per_call, self._expected // len(STAGES))
        documents -= documents % self._per_call
        work = await make_work(self._connections[0], min(documents, _MAX_DOCUMENTS))
        requests = list(work.by_stage(self._per_call))
        stopwatch = Stopwatch(self._pid)
        answers = await drive(
            self._connections, REPORT, requests, in_flight=self._in_flight, seconds=seconds
        )
        sample = stopwatch.stop(len(answers) * self._per_call)
        check_applied(work, answers, sample.count)
        self._expected = round(1.5 * sample.rate * seconds)
        return sample
