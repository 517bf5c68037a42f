"""A group is a module of `groups` with the parts that measure its figures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from tests.bench.load.http2 import CallFailedError
from tests.bench.machine import NotMeasuredError
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Figures that are measured together."""

    figures: tuple[Figure, ...]
    measure: Callable[[Bench], AsyncIterator[Row]]

    async def rows(self, bench: Bench) -> AsyncIterator[Row]:
        """Yield a row for every figure; one that could not be measured has the reason."""
        remaining = list(self.figures)
        try:
            async for row in self.measure(bench):
                remaining.remove(row.figure)
                yield row
        except NotMeasuredError as error:
            for figure in remaining:
                yield figure.missing(str(error))
        except (CallFailedError, ConnectionError, TimeoutError) as error:
            for figure in remaining:
                yield figure.broken(error)
