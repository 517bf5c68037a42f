"""Benchmarks of stagecast beside the least possible cost: `python -m tests.bench`.

Machines are shared and noisy, so no figure stands alone.
Each has a floor that does the bare part of the same work; the two take turns in one run.
"""

from __future__ import annotations
