"""`python -m tests.bench [GROUP ...]`: measure, and print a table of figures and their targets."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from stagecast.runtime.event_loop import run
from tests.bench.groups import GROUPS
from tests.bench.machine import Machine
from tests.bench.rounds import Effort
from tests.bench.servers import Bench
from tests.bench.table import HEAD, Row, exit_code

_DEFAULT_RESULTS = Path(tempfile.gettempdir()) / "stagecast-bench"


@click.command()
@click.argument("groups", metavar="[GROUP]...", nargs=-1, type=click.Choice(list(GROUPS)))
@click.option("--quick", is_flag=True, help="Take some three minutes in all: rough figures.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, 60, min_open=True),
    help="Approximate length of a measurement.",
)
@click.option("--rounds", type=click.IntRange(1, 100), help="Number of rounds; 3 by default.")
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=_DEFAULT_RESULTS,
    show_default=True,
    help="Directory for rounds.json and growth.svg.",
)
def bench(
    groups: Sequence[str], quick: bool, seconds: float | None, rounds: int | None, results: Path
) -> None:
    """Measure the figures of GROUPs, or of all; this takes some fifteen minutes.

    In each round, stagecast and what it is compared with take turns. The table shows medians, and
    the lowest and highest ratio. CPU is that of the server process. Servers have one core and their
    load another, if there are two. The exit code is 1 if a figure misses its target. Files of the
    servers are in the temporary directory (TMPDIR).
    """
    machine = Machine.detect()
    effort = Effort(rounds=rounds or 3, seconds=seconds or (0.3 if quick else 1.5), quick=quick)
    results.mkdir(parents=True, exist_ok=True)
    click.echo(f"{machine}\n\n{HEAD}")
    with machine.on_load_core():
        rows = run(_measure(groups or list(GROUPS), machine, effort, results))
    path = results / "rounds.json"
    path.write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")
    click.echo(f"\nAll rounds are in {path}.")
    sys.exit(exit_code(rows))


async def _measure(
    groups: Sequence[str], machine: Machine, effort: Effort, results: Path
) -> list[Row]:
    rows: list[Row] = []
    for group in groups:
        with tempfile.TemporaryDirectory(prefix="stagecast-bench-") as directory:
            measured = Bench(
                directory=Path(directory), machine=machine, effort=effort, results=results
            )
            for part in GROUPS[group]:
                async for row in part.rows(measured):
                    click.echo(str(row))
                    rows.append(row)
    return rows


if __name__ == "__main__":
    bench(prog_name="python -m tests.bench")
