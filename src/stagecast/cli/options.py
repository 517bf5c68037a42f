"""Options that also come from the environment, and many of them as one decorator."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from stagecast.config import Config
from stagecast.escaping import quote

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULTS = Config()


class _File(click.Path):
    """A path of whatever is there: who opens it says what is wrong with it, in one way for all."""

    def __init__(self) -> None:
        super().__init__(readable=False, path_type=Path)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        # As a path, nothing would be the current directory.
        if not value:
            self.fail("must not be empty", param, ctx)
        return super().convert(value, param, ctx)


FILE = _File()


class Decorator(Protocol):
    """Gives a command something, and returns it."""

    def __call__(self, command: Command, /) -> Command:
        """Give a command something."""
        ...


class Seconds(click.FloatRange):
    """A number of seconds that has an end."""

    def convert(
        self,
        value: Any,  # noqa: ANN401 - as click has it
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Return the number.

        Raises:
            click.BadParameter: it is none, or out of range.
        """
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{quote(str(value))} is not a number of seconds", param, ctx)
        return seconds


class _Flag(click.types.BoolParamType):
    """Yes or no, as an environment says it."""

    def convert(
        self,
        value: Any,  # noqa: ANN401 - as click has it
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> bool:
        """Return whether it is yes.

        Raises:
            click.BadParameter: it is neither; click itself would name an empty text as a choice.
        """
        if isinstance(value, str) and value.strip().lower() not in self.bool_states:
            self.fail(f"{quote(value)} is neither yes nor no; use 1 or 0", param, ctx)
        return super().convert(value, param, ctx)


class _Setting(click.Option):
    """An option that also comes from the environment, where blank means not set."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return what is set, without blanks around it, which only a path may have."""
        value = super().resolve_envvar_value(ctx)
        if value is None or not value.strip():
            return None
        return value if isinstance(self.type, click.Path) else value.strip()

    def value_from_envvar(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click has it
        """Return what is set; several values have commas or blanks between them."""
        value = self.resolve_envvar_value(ctx)
        if value is None or not self.multiple:
            return value
        return [one for one in re.split(r"[,\s]+", value) if one]


def setting(flag: str, *names: str, **options: Any) -> Decorator:  # noqa: ANN401 - as click has it
    """Return an option that also comes from the environment: `--db` as `STAGECAST_DB`."""
    variable = "STAGECAST_" + flag.removeprefix("--").replace("-", "_").upper()
    merged = {"cls": _Setting, "envvar": variable, "show_envvar": True, **options}
    if options.get("is_flag"):
        merged["type"] = _Flag()
    return click.option(flag, *names, **merged)


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
