"""Every process collects the same tests, so that several processes can share them."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.process import ROOT, environment

pytestmark = pytest.mark.slow


async def _collect(seed: int) -> str:
    """Return the tests that a process with another order of sets collects."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "--collect-only", "--quiet"),
        *("-p", "tests.collecting", "-p", "no:cacheprovider"),
        cwd=ROOT,
        env=environment(PYTHONHASHSEED=str(seed)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode().rpartition("\n\n")[0]  # and how long it took


async def test_collected_tests_depend_on_no_time_chance_or_process() -> None:
    one, other = await asyncio.gather(_collect(1), _collect(2))
    assert "tests/test_collecting.py::" in one
    assert one == other
