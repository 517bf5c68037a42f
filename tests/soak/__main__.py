"""The command: one run after the other until the time is over, each printed as it ends."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from pathlib import Path

import click

from tests.soak.run import Plan, Tally, run


@click.command()
@click.option("--seconds", type=float, default=60, help="Begin no run after this.")
@click.option("--seed", type=int, default=1, help="Of the first run; the next has the next.")
@click.option("--watches", type=int, default=1_000, help="In each run.")
@click.option("--kills", type=int, default=20, help="SIGKILLs in each run.")
@click.option("--hangups", type=int, default=200, help="In each run.")
def soak(seconds: float, seed: int, watches: int, kills: int, hangups: int) -> None:
    """Run until the time is over; print what was tried, and that nothing was lost."""
    total, began_s = Tally(), time.monotonic()
    for number in itertools.count(seed):
        plan = Plan(seed=number, watches=watches, kills=kills, hangups=hangups)
        with tempfile.TemporaryDirectory(prefix="stagecast-soak-") as directory:
            tally = asyncio.run(run(plan, Path(directory) / "soak.db"))
        click.echo(f"seed {number}: {tally}")
        total += tally
        if time.monotonic() - began_s > seconds:
            break
    click.echo(f"in all, {time.monotonic() - began_s:.0f} s: {total}; nothing lost")


if __name__ == "__main__":
    soak(prog_name="python -m tests.soak")
