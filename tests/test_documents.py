"""The README is short, links work, and every command and option is documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stagecast.cli import main
from tests.documents import DOCS, DOCUMENTS, FOR_USERS, anchors, links, name_of
from tests.process import ROOT

_OF_CLICK = {"--help", "--version"}


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


def test_readme_links_to_every_document() -> None:
    readme = ROOT / "README.md"
    reached = {(ROOT / link.partition("#")[0]).resolve() for link in links(readme)}
    assert set(DOCS.glob("*.md")) <= reached


def test_readme_has_180_lines_at_most() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


def test_readme_has_the_two_lines_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    for command in ("stagecast demo", "pytest"):  # as `.ci/run` searches them
        assert len(re.findall(rf"^python3 -m venv .*{command}", readme, re.MULTILINE)) == 1


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_test_files_exist(document: Path) -> None:
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
    options = set(_options()) - _OF_CLICK
    assert len(options) > 40
    missing = {option for option in options if not re.search(rf"{option}(?![\w-])", text)}
    commands = {name for name, _ in _commands(main)}
    missing |= {name for name in commands if not re.search(rf"(`|stagecast ){name}\b", text)}
    assert not missing
