"""A short run of what `python -m tests.soak` does for longer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.soak.run import Plan, run
from tests.soak.servers import FAULTS

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="faults are made by what Linux offers"
)


async def test_nothing_is_lost_on_two_servers_through_every_kind_of_fault(tmp_path: Path) -> None:
    plan = Plan(
        seed=4, watches=40, rounds=len(FAULTS), hangups=20, documents=8, longest_s=1, bad_inputs=10
    )
    tally = await run(plan, tmp_path / "soak.db")
    assert set(tally.faults) == set(FAULTS)
    assert tally.hangups >= 5
    assert tally.breaks >= 5
    assert tally.watches == 40
