"""Benchmarks of stagecast beside the least possible cost: `python -m tests.bench`.

Machines are shared and noisy, so no figure stands alone: each is measured in turns with a floor,
the least program that does the same work (`floors`), or with etcd, and the ratio is what counts.
`groups` has a module for each group of figures; the others are what all of them use.
"""

from __future__ import annotations
