"""A short run of what `python -m tests.soak` does for longer."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.soak.actions import ACTIONS, SLOW
from tests.soak.run import Plan, run
from tests.soak.servers import FAULTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the faults need Linux"),
]


async def test_nothing_is_lost_on_two_servers_through_every_kind_of_fault(tmp_path: Path) -> None:
    quick = tuple(action for action in ACTIONS if action != SLOW)
    plan = Plan(
        seed=4,
        watches=40,
        rounds=len(FAULTS),
        hangups=20,
        documents=8,
        max_fault_s=0.5,
        bad_inputs=10,
        actions=len(quick),
        kinds=quick,
    )
    tally = await run(plan, tmp_path / "soak.db")
    assert set(tally.faults) == set(FAULTS)
    assert set(tally.actions) == set(quick)
    assert tally.done["clients hung up"] >= 5
    assert tally.done["streams broken"] >= 5
    assert tally.done["watches"] >= 40
