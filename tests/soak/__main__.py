"""The command: runs one after the other until the time is over, and prints each."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from pathlib import Path

import click

from tests.soak.run import Plan, run
from tests.soak.tally import Tally


@click.command()
@click.option("--seconds", type=float, default=60, help="Start no run after this time.")
@click.option("--seed", type=int, default=1, help="Seed of the first run; each next adds 1.")
@click.option("--watches", type=int, default=300, help="Watches in each run.")
@click.option("--rounds", type=int, default=20, help="Rounds in each run, each under one fault.")
@click.option("--hangups", type=int, default=100, help="Hang-ups of clients in each run.")
def soak(seconds: float, seed: int, watches: int, rounds: int, hangups: int) -> None:
    """Run until the time is over; print what was done, and that nothing was lost."""
    total, began_s = Tally(), time.monotonic()
    for number in itertools.count(seed):
        plan = Plan(seed=number, watches=watches, rounds=rounds, actions=rounds, hangups=hangups)
        with tempfile.TemporaryDirectory(prefix="stagecast-soak-") as directory:
            tally = asyncio.run(run(plan, Path(directory) / "soak.db"))
        click.echo(f"seed {number}: {tally}")
        total += tally
        if time.monotonic() - began_s > seconds:
            break
    click.echo(f"\n{total.table()}\n\nnothing lost")


if __name__ == "__main__":
    soak(prog_name="python -m tests.soak")
