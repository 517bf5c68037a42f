"""Counts of what a run has done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts of one run, or the totals of several.

    Attributes:
        done: counts by name, in the order of the table.
        bad_inputs: bad requests answered by each RPC.
        actions, faults: counts by kind.
        seconds: the duration.
        at_once: the maximum of watches open at once.
        memory_mib: of the larger server, at the start and at the end; the maximum of all runs.
    """

    done: Counter[str] = field(default_factory=Counter)
    bad_inputs: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0
    at_once: int = 0
    memory_mib: tuple[int, int] = (0, 0)

    def __iadd__(self, other: Tally) -> Tally:
        # `+` would drop counts of zero.
        for mine, more in (
            (self.done, other.done),
            (self.bad_inputs, other.bad_inputs),
            (self.actions, other.actions),
            (self.faults, other.faults),
        ):
            mine.update(more)
        (start, end), (its_start, its_end) = self.memory_mib, other.memory_mib
        self.seconds += other.seconds
        self.at_once = max(self.at_once, other.at_once)
        self.memory_mib = (max(start, its_start), max(end, its_end))
        return self

    def __str__(self) -> str:
        """Return one line."""
        return ", ".join(f"{what} {count}" for what, count in self._rows())

    def table(self) -> str:
        """Return a table for the documentation."""
        rows = [*self._rows(), ("lost, repeated, torn", "0")]
        lines = [f"| {what} | {count} |" for what, count in rows]
        return "\n".join(["| what | how much |", "| --- | --- |", *lines])

    def _rows(self) -> list[tuple[str, str]]:
        counted = {
            **self.done,
            **dict(sorted(self.actions.items())),
            **dict(sorted(self.faults.items())),
        }
        answered, (start, end) = self.bad_inputs, self.memory_mib
        reports = self.done["reports acknowledged"]
        return [
            ("seconds", f"{self.seconds:,.0f}"),
            *((what, f"{count:,}") for what, count in counted.items()),
            ("watches open at once", f"{self.at_once:,}"),
            ("reports acknowledged a second", f"{reports / max(self.seconds, 1):,.0f}"),
            ("bad inputs answered", f"{answered.total():,}"),
            (f"by each of {len(answered)} RPCs at least", f"{min(answered.values(), default=0):,}"),
            ("memory of a server at the start and at the end", f"{start} and {end} MiB"),
        ]
