"""The command group `stagecast`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import click

from stagecast.escaping import encoding_of, escape_controls, escape_lacking
from stagecast.failures import is_too_many_files, reason_of
from stagecast.runtime.exits import INTERRUPTED
from stagecast.runtime.stdio import guarded_output

# A command's module is imported when the command runs: client commands need no server code.
_MODULES = {
    "demo": "stagecast.cli.demo",
    "serve": "stagecast.cli.serve",
    "watch": "stagecast.cli.watch",
    "status": "stagecast.cli.status",
    "batches": "stagecast.cli.batches",
    "history": "stagecast.cli.history",
    "pause": "stagecast.cli.control",
    "resume": "stagecast.cli.control",
    "stop": "stagecast.cli.control",
    "retry": "stagecast.cli.control",
    "keys": "stagecast.cli.keys",
    "backup": "stagecast.cli.maintenance",
    "check": "stagecast.cli.maintenance",
}


class _Program(click.Group):
    """The group of all commands, in the order of the table above, with common error handling."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        try:
            command: click.Command = getattr(import_module(_MODULES[cmd_name]), cmd_name)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        return command

    def main(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - as click has it
        if sys.stdout is not sys.__stdout__:  # replaced, such as by a test
            return super().main(*args, **extra)
        with guarded_output():
            return super().main(*args, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:  # noqa: ANN401 - as click has it
        with _escaped_errors():  # of the options before the command
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click has it
        try:
            with _escaped_errors():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except OSError as error:
            if not is_too_many_files(error):
                raise
            raise click.ClickException(reason_of(error)) from error


@contextlib.contextmanager
def _escaped_errors() -> Iterator[None]:
    """Escape messages of errors; click would write UTF-8 even to an ASCII output."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:  # its message is the help
        raise
    except click.ClickException as error:
        message = escape_lacking(escape_controls(error.message), encoding_of(sys.stderr))
        vars(error).update(message=message)  # final for type checkers
        raise


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stagecast")
def main() -> None:
    """Show the status of document ingestion into knowledge bases.

    Every command exits with code 74 if its output cannot be written.
    """
