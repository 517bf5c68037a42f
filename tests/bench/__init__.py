"""What stagecast costs, beside the least that it could: `python -m tests.bench`.

Machines are shared and noisy, so no figure stands alone.
Each has a floor that does the bare part of the same work, and the two take turns in one run.
"""

from __future__ import annotations
