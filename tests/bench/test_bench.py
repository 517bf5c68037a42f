"""The benchmark itself, in a size that only proves that it works."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.bench.groups import GROUPS
from tests.process import ROOT, environment

pytestmark = pytest.mark.slow

_TINY = ("--quick", "--seconds", "0.05", "--rounds", "1")

_NUMBER = r"[0-9][0-9,]*(?:\.[0-9]+)?"
_RATIO = r"(?:1/[0-9]+|[0-9.e+-]+)"
_MEASURED = re.compile(
    rf"\| (?P<name>[^|]+) \| {_NUMBER} [^|]+ \| [^|]+: {_NUMBER} [^|]+ "
    rf"\| {_RATIO} \({_RATIO} to {_RATIO}\) \| (?:n/a|[≤≥] {_RATIO}) \| [^|]+ \|"
)
# Of a tool that the machine lacks, or where so short a run measures nothing but noise.
_MISSING = re.compile(
    r"\| (?P<name>[^|]+) \| not measured: [^|]+ \| [^|]+ \| n/a \| [^|]+ \| n/a \|"
)


@pytest.mark.parametrize("group", list(GROUPS))
async def test_each_group_prints_a_row_for_every_figure(group: str, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "tests.bench", group, *_TINY),
        *("--results", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(600):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert err.decode() == ""
    assert process.returncode in (0, 1), "a slow machine may miss a target"
    machine, _, head, _, *rows, _, last = out.decode().splitlines()
    assert machine.startswith("Python ")
    assert head.startswith("| figure | ")
    assert last.startswith("All rounds are in ")
    names = []
    for row in rows:
        match = _MEASURED.fullmatch(row) or _MISSING.fullmatch(row)
        assert match, row
        names.append(match["name"])
    assert sorted(names) == sorted(figure.name for part in GROUPS[group] for figure in part.figures)
    raw = json.loads((tmp_path / "rounds.json").read_text())
    assert [each["figure"] for each in raw] == names
    if group == "growth":
        ET.parse(tmp_path / "growth.svg")  # noqa: S314 - written by ourselves


@pytest.mark.parametrize("module", ["grpc_server", "http_server", "sqlite_rows"])
def test_floor_contains_no_stagecast(module: str) -> None:
    program = (
        f"import sys, tests.bench.floors.{module};"
        "print([name for name in sys.modules if name.split('.')[0] == 'stagecast'])"
    )
    output = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        cwd=ROOT,
        env=environment(),
    ).stdout
    assert output.decode().strip() == "[]"
