"""The groups of figures, by their names on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.group import Part
from tests.bench.groups import reads, reports

GROUPS: dict[str, Sequence[Part]] = {
    "reports": reports.PARTS,
    "reads": reads.PARTS,
}
