"""The group that the commands belong to."""

from __future__ import annotations

import click

from stagecast.cli.batches import batches
from stagecast.cli.control import pause, resume, retry, stop
from stagecast.cli.demo import demo
from stagecast.cli.history import history
from stagecast.cli.keys import keys
from stagecast.cli.serve import serve
from stagecast.cli.status import status
from stagecast.cli.upkeep import backup, check
from stagecast.cli.watch import watch


class _InOrder(click.Group):
    """A group that lists its commands as they were added, not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stagecast")
def main() -> None:
    """Tell how far documents are on their way into a knowledge base."""


for command in (
    *(demo, serve, watch, status, batches, history),
    *(pause, resume, stop, retry),
    *(keys, backup, check),
):
    main.add_command(command)
