"""The benchmark itself, in a size that only proves that it works."""

from __future__ import annotations

import asyncio
import re
import sys

import pytest

from tests.process import ROOT, environment

pytestmark = pytest.mark.slow

_TINY = ("--seconds", "0.05", "--rounds", "1", "--watches", "1", "--watches", "30")

# A difference may drown in the noise of so short a run.
_NUMBER = r"(-?[0-9][0-9,]*(?:\.[0-9]+)?)"
_FIGURE = re.compile(rf".{{42}} *{_NUMBER} (/s|µs|ms|s) +{_NUMBER} \2 +{_NUMBER}  .*")
_WITHOUT_FLOOR = re.compile(rf".{{42}} *{_NUMBER} (?:s|KiB|MiB) +n/a +n/a  ")
_UNKNOWN = re.compile(r".{42} *n/a +n/a +n/a  .*")


@pytest.mark.parametrize(
    ("part", "lines"),
    [("reports", 12), ("fanout", 6), ("latency", 6), ("polls", 12), ("several", 2), ("large", 9)],
)
async def test_each_part_prints_every_figure_beside_its_floor(part: str, lines: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "tests.bench", part, *_TINY),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err.decode()) == (0, "")
    machine, _, head, *figures = out.decode().splitlines()
    assert machine.startswith("Python ")
    assert head.endswith("the floor is")
    assert len(figures) == lines
    for figure in figures:
        # CPU can only be measured on Linux, and where it does not drown in the noise.
        if "CPU" in figure and _UNKNOWN.fullmatch(figure):
            continue
        match = _FIGURE.fullmatch(figure) or _WITHOUT_FLOOR.fullmatch(figure)
        assert match, figure
        numbers = [each for each in match.groups() if each[0].isdigit()]
        assert all(float(number.replace(",", "")) > 0 for number in numbers), figure
