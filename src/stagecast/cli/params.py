"""Options and arguments that commands share: settings, ids, addresses, durations."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from stagecast.config import Config, check_address, split_address
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


def check_id(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return an id as the server takes it, if one was given.

    An empty one, which a shell makes of a variable that is not set, is refused: to the server no
    document means the whole batch, and no dataset all of them.

    Raises:
        click.BadParameter: it is empty, or no text.
    """
    if value is None:
        return None
    if not value:
        raise click.BadParameter("must not be empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # bytes of the command line that are no text
        raise click.BadParameter("must be UTF-8") from error
    return value


dataset_argument = click.argument("dataset", callback=check_id)
batch_argument = click.argument("batch", callback=check_id)
document_argument = click.argument("document", required=False, callback=check_id)


def examples(*lines: str) -> str:
    """Return the end of a command's help: what may be typed behind `stagecast`, one line each."""
    return "\n".join(["\b", "Examples:", *(f"  stagecast {line}" for line in lines)])


def check_listening(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return an address to listen on.

    Raises:
        click.BadParameter: it is neither `HOST:PORT` nor `unix:PATH`.
    """
    try:
        return check_address(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def check_called(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Return an address to call, if one was given.

    Raises:
        click.BadParameter: it is neither `HOST:PORT` nor `unix:PATH`.
    """
    try:
        return None if value is None else check_address(value, to_call=True)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def check_called_by_http(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Return an address to call with a URL, if one was given.

    Raises:
        click.BadParameter: it is not `HOST:PORT`; no URL leads to a unix socket.
    """
    address = check_called(context, parameter, value)
    if address is not None:
        try:
            split_address(address)
        except ValueError as error:
            raise click.BadParameter(f"no URL leads to {address}; give HOST:PORT") from error
    return address


_DURATION = re.compile("([0-9]{1,6})([a-z])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 31_536_000}


def check_duration(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> float | None:
    """Return how many seconds an age has, if one was given.

    Raises:
        click.BadParameter: it is none, or has no length.
    """
    if value is None:
        return None
    seconds = parse_duration(value, units="smhdw")
    if not seconds:
        raise click.BadParameter(f"{quote(value)} is no age such as 30d, 12h, 90m or 2w")
    return float(seconds)


def parse_duration(age: str, *, units: str) -> int:
    """Return how many seconds an age has, 0 if it is none in one of these units."""
    match = _DURATION.fullmatch(age)
    if match is None or match[2] not in units:
        return 0
    return int(match[1]) * _SECONDS[match[2]]
