"""The groups of figures, by their names on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.group import Part
from tests.bench.groups import (
    deliveries,
    growth,
    history,
    idle,
    large,
    latency,
    pipeline,
    polls,
    processes,
    reads,
    reports,
    throughput,
)

GROUPS: dict[str, Sequence[Part]] = {
    "deliveries": deliveries.PARTS,
    "latency": latency.PARTS,
    "throughput": throughput.PARTS,
    "reports": reports.PARTS,
    "pipeline": pipeline.PARTS,
    "reads": reads.PARTS,
    "polls": polls.PARTS,
    "idle": idle.PARTS,
    "history": history.PARTS,
    "large": large.PARTS,
    "processes": processes.PARTS,
    "growth": growth.PARTS,
}
