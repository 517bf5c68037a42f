"""The table says what is met, and the exit code follows from it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bench.group import Part
from tests.bench.groups import GROUPS, throughput
from tests.bench.load.http2 import CallFailedError
from tests.bench.machine import Machine
from tests.bench.rounds import Effort, interleave
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row, exit_code

_COST = Figure(name="Cost", unit="µs", against="floor", must=2, beyond=1.5)
_RATE = Figure(name="Rate", unit="/s", against="peer", must=0.5, beyond=0.9, more_is_better=True)
_INFORMATION = Figure(name="Time", unit="ms", against="floor")


def _bench(directory: Path) -> Bench:
    effort = Effort(rounds=1, seconds=0.1, quick=True)
    return Bench(directory=directory, machine=Machine.detect(), effort=effort, results=directory)


def test_row_shows_medians_and_the_range_of_ratios() -> None:
    row = _COST.row([(12, 10), (40, 10), (1_600, 1_000)])
    assert str(row) == "| Cost | 40.0 µs | floor: 10.0 µs | 1.6 (1.2 to 4) | ≤ 2 | yes |"


@pytest.mark.parametrize(
    ("pairs", "met", "code"),
    [
        ([(15, 10)], "beyond", 0),
        ([(20, 10)], "yes", 0),
        ([(21, 10)], "**no**", 1),
        ([(10, 10), (10, 10), (90, 10)], "beyond", 0),
        ([(90, 10), (90, 10), (10, 10)], "**no**", 1),
    ],
)
def test_cost_must_not_exceed_its_target(
    pairs: list[tuple[float, float]], met: str, code: int
) -> None:
    row = _COST.row(pairs)
    assert str(row).endswith(f"| {met} |")
    assert exit_code([row]) == code


@pytest.mark.parametrize(
    ("pair", "met", "code"),
    [((90, 100), "beyond", 0), ((50, 100), "yes", 0), ((49, 100), "**no**", 1)],
)
def test_rate_must_reach_its_target(pair: tuple[float, float], met: str, code: int) -> None:
    row = _RATE.row([pair])
    assert str(row).endswith(f"| ≥ 0.5 | {met} |")
    assert exit_code([row]) == code


def test_one_missed_target_among_others_makes_the_exit_code_1() -> None:
    rows = [_COST.row([(1, 1)]), _RATE.row([(1, 100)]), _INFORMATION.row([(900, 1)])]
    assert exit_code(rows) == 1


def test_information_has_no_target_to_miss() -> None:
    row = _INFORMATION.row([(900, 1)])
    assert str(row) == "| Time | 900.0 ms | floor: 1.00 ms | 900 (900 to 900) | n/a | n/a |"
    assert exit_code([row]) == 0


def test_small_ratio_is_shown_as_a_fraction() -> None:
    figure = Figure(name="Share", unit="µs", against="floor", must=1 / 60)
    assert str(figure.row([(1, 30)])).endswith("| 1/30 (1/30 to 1/30) | ≤ 1/60 | **no** |")


def test_difference_that_drowned_in_noise_is_left_out() -> None:
    assert _COST.row([(-3, 10), (10, 10)]).ratios == [1]
    assert "not measured: less than the noise" in str(_COST.row([(-3, 10)]))


async def test_row_says_what_the_machine_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    [part] = throughput.PARTS
    rows = [row async for row in part.rows(_bench(tmp_path))]
    assert [row.figure for row in rows] == list(part.figures)
    assert all("| not measured: no etcd |" in str(row) for row in rows)
    assert exit_code(rows) == 0


async def test_failed_measurement_makes_the_exit_code_1(tmp_path: Path) -> None:
    async def measure(_bench: Bench) -> AsyncIterator[Row]:
        yield _COST.row([(1, 1)])
        raise CallFailedError("Report has failed: the disk is full")

    part = Part(figures=(_COST, _INFORMATION), measure=measure)
    rows = [row async for row in part.rows(_bench(tmp_path))]
    assert [row.figure for row in rows] == [_COST, _INFORMATION]
    assert "| failed: Report has failed: the disk is full |" in str(rows[1])
    assert exit_code(rows) == 1


def test_machine_with_one_core_is_named() -> None:
    one = Machine(server=frozenset({3}), load=frozenset({3}))
    assert "server and load share core 3, the only one" in str(one)
    two = Machine(server=frozenset({0}), load=frozenset({1}))
    assert "server on core 0, load on core 1" in str(two)


async def test_rounds_alternate_which_side_is_first() -> None:
    order: list[str] = []

    async def ours() -> int:
        order.append("ours")
        return 1

    async def against() -> str:
        order.append("against")
        return "2"

    assert await interleave(3, ours, against) == [(1, "2")] * 3
    assert order == ["ours", "against", "against", "ours", "ours", "against"]


def test_names_of_figures_are_unique() -> None:
    names = [figure.name for parts in GROUPS.values() for part in parts for figure in part.figures]
    assert len(names) == len(set(names))
