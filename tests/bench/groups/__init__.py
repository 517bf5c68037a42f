"""The groups of figures, by their names on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.group import Part
from tests.bench.groups import deliveries, latency, reads, reports, throughput

GROUPS: dict[str, Sequence[Part]] = {
    "deliveries": deliveries.PARTS,
    "latency": latency.PARTS,
    "throughput": throughput.PARTS,
    "reports": reports.PARTS,
    "reads": reads.PARTS,
}
