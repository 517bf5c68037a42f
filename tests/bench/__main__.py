"""`python -m tests.bench [PART ...]`: measure, and print each figure beside its floor."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import click
from sqlite_utils.utils import sqlite3

from stagecast.runtime.event_loop import run
from tests.bench import fanout, large, latency, polls, reports, several
from tests.bench.figures import HEAD, Figure
from tests.bench.measurement import Effort

_PARTS: dict[str, Callable[[Path, Effort], AsyncIterator[Figure]]] = {
    "reports": reports.measure,
    "fanout": fanout.measure,
    "latency": latency.measure,
    "polls": polls.measure,
    "several": several.measure,
    "large": large.measure,
}


@click.command()
@click.argument("parts", metavar="[PART]...", nargs=-1, type=click.Choice(list(_PARTS)))
@click.option(
    "--seconds",
    type=click.FloatRange(0, 60, min_open=True),
    help="Approximate length of a measurement.",
)
@click.option("--rounds", type=click.IntRange(1, 100), help="Maximum number of rounds.")
@click.option(
    "--watches",
    type=click.IntRange(1, 5_000),
    multiple=True,
    help="Number of watches of a batch; may be repeated.",
)
@click.option("--quick", is_flag=True, help="Take some 20 s in all: rough figures, fewer watches.")
def bench(
    parts: Sequence[str],
    seconds: float | None,
    rounds: int | None,
    watches: Sequence[int],
    quick: bool,
) -> None:
    """Measure PARTs, or all: reports, fanout, latency, polls, several, large.

    Each figure is the median of some rounds, in which stagecast and the floor take turns; `times`
    is the median of the ratios, of time or of CPU. CPU is that of the server process only; with few
    cores, the clients may limit a rate. Files are in the temporary directory (TMPDIR).
    """
    effort = Effort(
        seconds=seconds or (0.2 if quick else 0.8),
        rounds=rounds or (2 if quick else 5),
        watches=watches or ((1, 100) if quick else (1, 100, 1_000)),
    )
    run(_measure(parts or list(_PARTS), effort))


async def _measure(parts: Sequence[str], effort: Effort) -> None:
    click.echo(_machine())
    with tempfile.TemporaryDirectory(prefix="stagecast-bench-") as directory:
        for part in parts:
            click.echo(f"\n{HEAD}")
            async for figure in _PARTS[part](Path(directory), effort):
                click.echo(str(figure))


def _machine() -> str:
    return (
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{os.cpu_count()} cores, files in {tempfile.gettempdir()}"
    )


if __name__ == "__main__":
    bench(prog_name="python -m tests.bench")
