"""A group is a module of `groups` with the parts that measure its figures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from tests.bench.machine import NotMeasuredError
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Figures that are measured together."""

    figures: tuple[Figure, ...]
    measure: Callable[[Bench], AsyncIterator[Row]]

    async def rows(self, bench: Bench) -> AsyncIterator[Row]:
        """Yield a row for every figure; if the machine lacks something, the row says what."""
        reason = "no figure"
        missing = dict.fromkeys(self.figures)
        try:
            async for row in self.measure(bench):
                missing.pop(row.figure)
                yield row
        except NotMeasuredError as error:
            reason = str(error)
        for figure in missing:
            yield figure.missing(reason)
