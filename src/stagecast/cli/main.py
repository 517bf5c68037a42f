"""The group that the commands belong to."""

from __future__ import annotations

import click

from stagecast.cli.demo import demo
from stagecast.cli.serve import serve
from stagecast.cli.watch import watch


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stagecast")
def main() -> None:
    """Tell how far documents are on their way into a knowledge base."""


main.add_command(demo)
main.add_command(serve)
main.add_command(watch)
