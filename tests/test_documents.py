"""The documents are short where they should be, lead somewhere, and name all that there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stagecast.cli import main
from tests.documents import DOCS, DOCUMENTS, FOR_USERS, anchors, links, name_of
from tests.process import ROOT

_BY_CLICK = {"--help", "--version"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_and_headings(document: Path) -> None:
    for link in links(document):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_readme_leads_to_every_document() -> None:
    readme = ROOT / "README.md"
    reached = {(ROOT / link.partition("#")[0]).resolve() for link in links(readme)}
    assert set(DOCS.glob("*.md")) <= reached


def test_readme_has_180_lines_at_most() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


def test_ci_finds_one_line_that_shows_the_demo_and_one_that_runs_the_tests() -> None:
    readme = (ROOT / "README.md").read_text()
    for what in ("stagecast demo", "pytest"):  # as `.ci/run` looks for them
        assert len(re.findall(rf"^python3 -m venv .*{what}", readme, re.MULTILINE)) == 1


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_tests_that_are_named_are_there(document: Path) -> None:
    for path in re.findall(r"`(tests/[\w/]+\.py)`", document.read_text()):
        assert (ROOT / path).is_file(), path


def _commands(group: click.Group, *names: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join((*names, name)), command
        if isinstance(command, click.Group):
            yield from _commands(command, *names, name)


def _options() -> Iterator[str]:
    for _, command in _commands(main):
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield from (flag for flag in parameter.opts if flag.startswith("--"))


def test_every_command_and_option_is_documented() -> None:
    text = "\n".join(document.read_text() for document in FOR_USERS)
    options = set(_options()) - _BY_CLICK
    assert len(options) > 40
    unnamed = {option for option in options if not re.search(rf"{option}(?![\w-])", text)}
    commands = {name for name, _ in _commands(main)}
    unnamed |= {name for name in commands if not re.search(rf"(`|stagecast ){name}\b", text)}
    assert not unnamed
