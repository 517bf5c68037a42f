"""The command: one run after the other until the time is over, each printed as it ends."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from tests.soak.run import Plan, Tally, run


def main() -> None:
    """Run, and print what was tried and that nothing was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="begin no run after this")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--watches", type=int, default=1_000, help="in each run")
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs in each run")
    parser.add_argument("--hangups", type=int, default=200, help="in each run")
    asked = parser.parse_args()
    total, began_s = Tally(), time.monotonic()
    for seed in range(asked.seed, asked.seed + 1_000_000):
        plan = Plan(seed=seed, watches=asked.watches, kills=asked.kills, hangups=asked.hangups)
        with tempfile.TemporaryDirectory() as directory:
            total += (tally := asyncio.run(run(plan, Path(directory) / "soak.db")))
        print(f"seed {seed}: {tally}", flush=True)  # noqa: T201 - it is a command
        if time.monotonic() - began_s > asked.seconds:
            break
    print(f"in all, {time.monotonic() - began_s:.0f} s: {total}; nothing lost")  # noqa: T201 - as above


if __name__ == "__main__":
    main()
