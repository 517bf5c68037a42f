"""Options set in the environment, in the same way for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from stagecast.cli.params import Seconds, setting
from tests.cli.command import stagecast

CORS = "STAGECAST_CORS_ORIGIN"


@click.command()
@setting("--text", default="usual")
@setting("--number", type=click.IntRange(min=1), default=5)
@setting("--seconds", type=Seconds(min=0, min_open=True), default=1.0)
@setting("--flag", is_flag=True)
@setting("--file", type=click.Path(path_type=Path), default=Path("usual"))
@setting("--many", multiple=True)
def show(**settings: object) -> None:
    """Print the settings."""
    for name, value in settings.items():
        click.echo(f"{name}={value!r}")


def shown(*arguments: str, **variables: str) -> dict[str, Any]:
    argument = {f"STAGECAST_{name.upper()}": value for name, value in variables.items()}
    ended = CliRunner().invoke(show, arguments, env=argument)
    assert ended.exit_code == 0, ended.output
    return dict(line.split("=", 1) for line in ended.output.splitlines())


def refused(*arguments: str, **variables: str) -> str:
    argument = {f"STAGECAST_{name.upper()}": value for name, value in variables.items()}
    ended = CliRunner().invoke(show, arguments, env=argument)
    assert ended.exit_code == 2, ended.output
    return ended.output


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_blank_variable_counts_as_not_set(blank: str) -> None:
    names = ("text", "number", "seconds", "flag", "file", "many")
    assert shown(**dict.fromkeys(names, blank)) == shown()


def test_blanks_around_a_value_are_ignored_except_in_paths() -> None:
    argument = shown(text=" a b ", number=" 7 ", seconds="2.5\n", flag=" true ", file=" a ")
    assert (argument["text"], argument["number"], argument["seconds"]) == ("'a b'", "7", "2.5")
    assert (argument["flag"], argument["file"]) == ("True", "PosixPath(' a ')")


@pytest.mark.parametrize("value", ["0", "false", "No", "off"])
def test_flag_can_be_set_to_no(value: str) -> None:
    assert shown(flag=value)["flag"] == "False"


@pytest.mark.parametrize("argument", ["a,b", "a b", " a, b ", "a,,b,", "a\nb"])
def test_several_values_are_separated_by_commas_or_blanks(argument: str) -> None:
    assert shown(many=argument)["many"] == "('a', 'b')"


def test_option_overrides_the_environment_and_can_be_repeated() -> None:
    assert shown("--many", "a,b", "--many", "c", many="d")["many"] == "('a,b', 'c')"


@pytest.mark.parametrize("endless", ["nan", "inf", "-inf", "soon"])
def test_seconds_must_be_a_finite_number(endless: str) -> None:
    assert "STAGECAST_SECONDS" in refused(seconds=endless)
    assert "--seconds" in refused("--seconds", endless)


@pytest.mark.slow
async def test_serve_takes_several_origins_from_the_environment() -> None:
    ended = await stagecast("serve", **{CORS: "http://a.example, *"})
    assert "'*' is not an origin" in ended.err
    ended = await stagecast("serve", "--help")
    assert "separated by commas or blanks" in " ".join(ended.out.split())


def test_flag_that_is_neither_yes_nor_no_is_refused() -> None:
    output = refused(flag="maybe")
    assert "'maybe' is neither yes nor no; use 1 or 0" in " ".join(output.split())
