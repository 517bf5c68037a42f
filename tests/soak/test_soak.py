"""A short run of what `python -m tests.soak` does for longer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.soak.acts import ACTS, SLOW
from tests.soak.run import Plan, run
from tests.soak.servers import FAULTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="faults are made by what Linux offers"),
]


async def test_nothing_is_lost_on_two_servers_through_every_kind_of_fault(tmp_path: Path) -> None:
    quick = tuple(act for act in ACTS if act != SLOW)
    plan = Plan(
        seed=4,
        watches=40,
        rounds=len(FAULTS),
        hangups=20,
        documents=8,
        longest_s=0.5,
        bad_inputs=10,
        acts=len(quick),
        kinds=quick,
    )
    tally = await run(plan, tmp_path / "soak.db")
    assert set(tally.faults) == set(FAULTS)
    assert set(tally.acts) == set(quick)
    assert tally.done["clients hung up"] >= 5
    assert tally.done["streams broken"] >= 5
    assert tally.done["watches"] >= 40
