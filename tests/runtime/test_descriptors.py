"""Commands with a low limit of open files work, or report it in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Ended, command, finished


async def limited(limit: str, *arguments: str | Path) -> Ended:
    """Run a command with options of `ulimit`."""
    line = ["bash", "-c", f'ulimit {limit}; exec "$@"', "bash", *command(*arguments)]
    return await finished(line)


@pytest.mark.parametrize("arguments", [("batches",), ("keys", "create", "--name", "a")])
@pytest.mark.parametrize("number", [8, 13, 31])  # grpc aborts with 13
async def test_too_low_limit_of_open_files_is_reported_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], number: int
) -> None:
    db = ("--db", tmp_path / "s.db") if arguments[0] == "keys" else ()
    ended = await limited(f"-n {number}", *arguments, *db)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"Error: the limit of open files is {number}, and the command needs at least 32; raise it "
        "with 'ulimit -n'\n"
    )
    assert not list(tmp_path.iterdir())


async def test_command_runs_with_the_required_limit_of_files(tmp_path: Path) -> None:
    made = await limited("-n 32", "keys", "create", "--name", "a", "--db", tmp_path / "s.db")
    assert made.code == 0, made.err


@pytest.mark.parametrize("number", [16, 64, 99])
async def test_demo_reports_too_low_limit_of_open_files_in_one_line(number: int) -> None:
    ended = await limited(f"-n {number}", "demo")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"Error: the limit of open files is {number}, and the demo needs at least 100; raise it "
        "with 'ulimit -n'\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["-n 100", "-Sn 20"])
async def test_demo_of_many_large_texts_runs_with_the_required_limit(
    tmp_path: Path, limit: str
) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text("A text with some words.\n" * 20_000)
    ended = await limited(limit, "demo", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert "40 succeeded\n" in ended.out
