"""A short run of what `python -m tests.soak` does for longer."""

from __future__ import annotations

from pathlib import Path

from tests.soak.run import Plan, run


async def test_nothing_is_lost_on_two_servers_that_are_killed_under_load(tmp_path: Path) -> None:
    plan = Plan(seed=4, watches=60, kills=4, hangups=20, documents=40)
    tally = await run(plan, tmp_path / "soak.db")
    assert tally.kills == 4
    assert tally.hangups >= 5
    assert tally.watches == 60
