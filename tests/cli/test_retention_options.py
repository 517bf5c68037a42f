"""`stagecast serve --retain-…`: what a server deletes from an existing file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from stagecast.cli import main
from stagecast.cli.params import check_duration
from stagecast.store.sqlite import SqliteStore
from tests.builders import ENCODER, create
from tests.cli.command import started
from tests.clock import Clock
from tests.conditions import until
from tests.process import running
from tests.rpc.calls import contents
from tests.store.history import make_ended

DAY_S = 86_400
ANY = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")


@pytest.fixture
async def db(tmp_path: Path) -> Path:
    """A file with an open batch, and two that ended 40 and 20 days ago with 11 transitions each."""
    clock = Clock(time.time_ns() // 1_000)
    clock.advance(-40 * DAY_S)
    path = tmp_path / "s.db"
    store = SqliteStore(
        path, clock=clock, encoder=ENCODER, on_commit=lambda _: None, on_foreign_commit=lambda: None
    )
    await create(store, "open", documents=3, stall_after_us=0)
    await make_ended(store, "old")
    clock.advance(20 * DAY_S)
    await make_ended(store, "younger")
    await store.close()
    return path


def _transitions(db: Path) -> list[int]:
    """Return the number of transitions of each batch, oldest batch first."""
    tables = contents(db)
    return [
        sum(row[0] == key for row in tables["transitions"])
        for key in sorted(row[0] for row in tables["batches"])
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "left"),
    [
        ("--retain-history 30d", [5, 1, 11]),
        ("--retain-history 2w", [5, 1, 1]),
        ("--retain-transitions 4", [5, 4, 4]),
        ("--retain-history 30d --retain-transitions 4", [5, 1, 4]),
        ("--retain-batches 720h", [5, 11]),
        ("--retain-batches 30d --processes 2", [5, 11]),
    ],
)
async def test_serve_deletes_expired_history_and_batches(
    db: Path, options: str, left: list[int]
) -> None:
    assert _transitions(db) == [5, 11, 11]
    async with running(db, *options.split()):
        await until(lambda: _transitions(db) == left)
    assert _transitions(db) == left


async def test_serve_takes_retention_from_the_environment(db: Path) -> None:
    variables = {
        "STAGECAST_RETAIN_HISTORY": "15d",
        "STAGECAST_RETAIN_TRANSITIONS": "2",
        "STAGECAST_RETAIN_BATCHES": "30d",
    }
    async with started("serve", "--db", db, *ANY, **variables) as server:
        await server.line()
        await until(lambda: _transitions(db) == [5, 1])


@pytest.mark.parametrize(
    ("age", "seconds"), [("45s", 45), ("90m", 5_400), ("12h", 43_200), ("30d", 2_592_000)]
)
def test_duration_is_a_number_with_a_unit(age: str, seconds: float) -> None:
    assert check_duration(None, None, age) == seconds  # type: ignore[arg-type]  # neither is used


@pytest.mark.parametrize("option", ["--retain-history", "--retain-batches"])
@pytest.mark.parametrize(
    "age", ["", "30", "0d", "-1d", "1.5h", "30 d", "d", "1y", "٣d", "9999999d"]
)
def test_invalid_duration_is_refused(option: str, age: str) -> None:
    result = CliRunner().invoke(main, ["serve", *ANY, option, age])
    assert result.exit_code == 2
    assert f"invalid duration {age!r}; use a form such as 30d, 12h, 90m or 2w" in result.output


@pytest.mark.parametrize("option", ["--retain-history", "--retain-batches"])
@pytest.mark.parametrize("age", ["1s", "5m", "9m", "599s"])
def test_retention_below_the_minimum_is_refused(option: str, age: str) -> None:
    why = f"{age!r} is less than the minimum of 10m"
    variable = "STAGECAST_" + option[2:].replace("-", "_").upper()
    for arguments, variables in (([option, age], {}), ([], {variable: age})):
        result = CliRunner().invoke(main, ["serve", *ANY, *arguments], env=variables)
        assert result.exit_code == 2
        assert why in result.output


@pytest.mark.parametrize("number", ["0", "-3", "many"])
def test_at_least_one_transition_is_retained(number: str) -> None:
    result = CliRunner().invoke(main, ["serve", *ANY, "--retain-transitions", number])
    assert result.exit_code == 2
    assert "--retain-transitions" in result.output
