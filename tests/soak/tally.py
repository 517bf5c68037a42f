"""What a run has tried."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What was done, of one run or of several together.

    Attributes:
        faults: how often each kind.
        memory_mib: of the larger server, at the start and at the end; of several runs the most.
    """

    runs: int = 1
    batches: int = 0
    watches: int = 0
    reports: int = 0
    transitions: int = 0
    bad_inputs: int = 0
    hangups: int = 0
    breaks: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    memory_mib: tuple[int, int] = (0, 0)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            runs=self.runs + other.runs,
            batches=self.batches + other.batches,
            watches=self.watches + other.watches,
            reports=self.reports + other.reports,
            transitions=self.transitions + other.transitions,
            bad_inputs=self.bad_inputs + other.bad_inputs,
            hangups=self.hangups + other.hangups,
            breaks=self.breaks + other.breaks,
            faults=self.faults + other.faults,
            memory_mib=(
                max(self.memory_mib[0], other.memory_mib[0]),
                max(self.memory_mib[1], other.memory_mib[1]),
            ),
        )

    def __str__(self) -> str:
        """Return one line."""
        return ", ".join(f"{what} {count}" for what, count in self._rows())

    def table(self, seconds: float) -> str:
        """Return a table for the README."""
        rows = [("seconds", f"{seconds:,.0f}"), *self._rows(), ("lost, repeated, torn", "0")]
        lines = [f"| {what} | {count} |" for what, count in rows]
        return "\n".join(["| what | how much |", "| --- | --- |", *lines])

    def _rows(self) -> list[tuple[str, str]]:
        start, end = self.memory_mib
        counts = {
            "runs": self.runs,
            "batches": self.batches,
            "watches": self.watches,
            "reports acknowledged": self.reports,
            "transitions received": self.transitions,
            "bad inputs answered": self.bad_inputs,
            "clients hung up": self.hangups,
            "streams broken": self.breaks,
            **dict(sorted(self.faults.items())),
        }
        memory = ("memory of a server at the start and at the end", f"{start} and {end} MiB")
        return [*((what, f"{count:,}") for what, count in counts.items()), memory]
