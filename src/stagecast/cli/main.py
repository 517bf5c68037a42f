"""The group that the commands belong to."""

from __future__ import annotations

import sys
from typing import Any

import click

from stagecast.cli.batches import batches
from stagecast.cli.control import pause, resume, retry, stop
from stagecast.cli.demo import demo
from stagecast.cli.ending import INTERRUPTED
from stagecast.cli.history import history
from stagecast.cli.keys import keys
from stagecast.cli.serve import serve
from stagecast.cli.status import status
from stagecast.cli.stdio import guarded_output
from stagecast.cli.upkeep import backup, check
from stagecast.cli.watch import watch
from stagecast.escaping import encoding_of, escape_controls, escape_lacking
from stagecast.failures import is_too_many_files, reason_of


class _Program(click.Group):
    """All commands, listed as they were added, not by the alphabet; each ends in the same way."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def main(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - as click has it
        if sys.stdout is not sys.__stdout__:  # whoever has replaced it looks after it
            return super().main(*args, **extra)
        with guarded_output():
            return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click has it
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except OSError as error:
            if not is_too_many_files(error):
                raise
            raise click.ClickException(reason_of(error)) from error
        except click.exceptions.NoArgsIsHelpError:  # its message is the help
            raise
        except click.ClickException as error:
            # click would write UTF-8 to an output that takes ASCII only.
            message = escape_lacking(escape_controls(error.message), encoding_of(sys.stderr))
            vars(error).update(message=message)  # final for type checkers
            raise


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stagecast")
def main() -> None:
    """Tell how far documents are on their way into a knowledge base.

    Every command ends with exit code 74 if its output cannot be written.
    """


for command in (
    *(demo, serve, watch, status, batches, history),
    *(pause, resume, stop, retry),
    *(keys, backup, check),
):
    main.add_command(command)
