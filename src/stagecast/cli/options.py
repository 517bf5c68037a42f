"""Options that also come from the environment, and many of them as one decorator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from stagecast.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULTS = Config()
FILE = click.Path(dir_okay=False, path_type=Path)


class Decorator(Protocol):
    """Gives a command something, and returns it."""

    def __call__(self, command: Command, /) -> Command:
        """Give a command something."""
        ...


def setting(flag: str, *names: str, **given: Any) -> Decorator:  # noqa: ANN401 - as click has it
    """Return an option that also comes from the environment: `--db` as `STAGECAST_DB`."""
    variable = "STAGECAST_" + flag.removeprefix("--").replace("-", "_").upper()
    return click.option(flag, *names, **{"envvar": variable, "show_envvar": True, **given})


def together(*options: Decorator) -> Decorator:
    """Return a decorator that gives a command all of the options, in their order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def db_option(what: str) -> Decorator:
    """Return the option `--db`, with what its file is to the command."""
    return setting("--db", type=FILE, default=DEFAULTS.db, show_default=True, help=what)
