"""Options and arguments that commands share: settings, ids, addresses, durations."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from stagecast.client.datasets import dataset_id
from stagecast.config import Config, check_address, socket_path
from stagecast.durations import parse_duration
from stagecast.escaping import quote

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULTS = Config()


class _File(click.Path):
    """A path, not checked here: opening it reports errors, in the same way for all commands."""

    def __init__(self) -> None:
        super().__init__(readable=False, path_type=Path)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        # As a path, an empty string would be the current directory.
        if not value:
            self.fail("must not be empty", param, ctx)
        return super().convert(value, param, ctx)


FILE = _File()


class Decorator(Protocol):
    """Adds options to a command, and returns it."""

    def __call__(self, command: Command, /) -> Command:
        """Add options to a command."""
        ...


class Seconds(click.FloatRange):
    """A finite number of seconds."""

    def convert(
        self,
        value: Any,  # noqa: ANN401 - as click has it
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Return the number.

        Raises:
            click.BadParameter: it is malformed, or out of range.
        """
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{quote(str(value))} is not a number of seconds", param, ctx)
        return seconds


class _Flag(click.types.BoolParamType):
    """A flag that can also be set in the environment."""

    def convert(
        self,
        value: Any,  # noqa: ANN401 - as click has it
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> bool:
        """Return the value.

        Raises:
            click.BadParameter: it is neither yes nor no; click's own message lists an empty choice.
        """
        if isinstance(value, str) and value.strip().lower() not in self.bool_states:
            self.fail(f"{quote(value)} is neither yes nor no; use 1 or 0", param, ctx)
        return super().convert(value, param, ctx)


class _Setting(click.Option):
    """An option that can also be set in the environment, where blank means not set."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the variable, without blanks around it unless it is a path."""
        value = super().resolve_envvar_value(ctx)
        if value is None or not value.strip():
            return None
        return value if isinstance(self.type, click.Path) else value.strip()

    def value_from_envvar(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click has it
        """Return the value, or several, separated by commas or blanks."""
        value = self.resolve_envvar_value(ctx)
        if value is None or not self.multiple:
            return value
        return [one for one in re.split(r"[,\s]+", value) if one]


def setting(flag: str, *names: str, **options: Any) -> Decorator:  # noqa: ANN401 - as click has it
    """Return an option with an environment variable: `--db` has `STAGECAST_DB`."""
    variable = "STAGECAST_" + flag.removeprefix("--").replace("-", "_").upper()
    merged = {"cls": _Setting, "envvar": variable, "show_envvar": True, **options}
    if options.get("is_flag"):
        merged["type"] = _Flag()
    return click.option(flag, *names, **merged)


def together(*options: Decorator) -> Decorator:
    """Return a decorator that adds all of the options, in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def db_option(text: str) -> Decorator:
    """Return the option `--db` with a help text."""
    return setting("--db", type=FILE, default=DEFAULTS.db, show_default=True, help=text)


def check_id(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return an id for a request, or `None`.

    An empty id, such as from an unset shell variable, is refused: to the server, no document means
    the whole batch, and no dataset means all datasets.

    Raises:
        click.BadParameter: it is empty or not UTF-8.
    """
    if value is None:
        return None
    if not value:
        raise click.BadParameter("must not be empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # bytes of the command line that are not UTF-8
        raise click.BadParameter("must be UTF-8") from error
    return value


def check_dataset(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Return a dataset, a UUID or a name, as it was typed; or `None`.

    Raises:
        click.BadParameter: it is empty, not UTF-8, or a mistyped UUID.
    """
    value = check_id(context, parameter, value)
    try:
        if value is not None:
            dataset_id(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


dataset_argument = click.argument("dataset", callback=check_dataset)
batch_argument = click.argument("batch", callback=check_id)
document_argument = click.argument("document", required=False, callback=check_id)


def examples(*lines: str) -> str:
    """Return the examples of a command's help, from arguments of `stagecast`."""
    return "\n".join(["\b", "Examples:", *(f"  stagecast {line}" for line in lines)])


def check_listen_address(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return an address to listen on.

    Raises:
        click.BadParameter: it is neither `HOST:PORT` nor `unix:PATH`.
    """
    try:
        return check_address(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def check_server_address(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Return an address to connect to, or `None`.

    Raises:
        click.BadParameter: it is neither `HOST:PORT` nor `unix:PATH`.
    """
    try:
        return None if value is None else check_address(value, to_call=True)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def check_http_address(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Return an address for a URL, or `None`.

    Raises:
        click.BadParameter: it is not `HOST:PORT`; a URL cannot name a unix socket.
    """
    if value is None:
        return None
    try:
        address = check_address(value, to_call=True, or_socket=False)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if socket_path(address) is not None:
        raise click.BadParameter(f"{address} cannot be used in a URL; use HOST:PORT")
    return address


def check_duration(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> float | None:
    """Return the seconds of a duration, or `None`.

    Raises:
        click.BadParameter: it is malformed or zero.
    """
    if value is None:
        return None
    seconds = parse_duration(value)
    if not seconds:
        raise click.BadParameter(
            f"invalid duration {quote(value)}; use a form such as 30d, 12h, 90m or 2w"
        )
    return float(seconds)
