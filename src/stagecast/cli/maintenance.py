"""`stagecast backup` and `stagecast check`: what is done with the file, with or without servers."""

from __future__ import annotations

from pathlib import Path

import click

from stagecast.cli.params import FILE, db_option, examples
from stagecast.cli.render import formatting
from stagecast.cli.render.formatting import quantity
from stagecast.errors import StartError
from stagecast.maintenance import copy_file, inspect_file
from stagecast.paths import shown
from stagecast.runtime.signals import exit_on_signals
from stagecast.runtime.stdio import echo

_db_option = db_option("The SQLite file of the store.")


@click.command(
    epilog=examples("backup copy.db", "backup --db walk.db --overwrite /backups/today.db")
)
@click.argument("file", type=FILE)
@_db_option
@click.option("--overwrite", is_flag=True, help="Put the copy in the place of FILE if it is there.")
def backup(file: Path, db: Path, *, overwrite: bool) -> None:
    """Copy the store to FILE, while servers go on with it.

    The copy is of one moment, and FILE is there only when it is whole. To go back to it, stop the
    servers, remove the -wal and -shm beside the store, put the copy in its place and start again:
    those who watch are told that the history has changed.

    Exit code: 0, 1 if it was not copied, 74 if it was, but that cannot be written.
    """
    try:
        with exit_on_signals():
            size = copy_file(db, file, overwrite=overwrite)
    except StartError as error:
        raise click.ClickException(str(error)) from error
    echo(f"{shown(file)} is a copy of {shown(db)}: {size:,} bytes")


@click.command(epilog=examples("check --db walk.db"))
@_db_option
def check(db: Path) -> None:
    """Find out whether the store's file is sound, while servers go on with it.

    Looks at all of it: whether SQLite finds it whole, counts against what is counted anew, the
    revisions of each batch, documents against the last that the log says of them, states, stall
    timers and serials. Prints what is wrong, a line each. It is read only; a file of some gigabytes
    takes minutes, and its -wal grows meanwhile.

    Exit code: 0 if all is well, 1 if something is wrong or it cannot be looked at, 74 if the
    output cannot be written.
    """
    try:
        with exit_on_signals():
            result = inspect_file(db)
    except StartError as error:
        raise click.ClickException(str(error)) from error
    for fault in result.faults:
        echo(formatting.shown(fault))
    if result.faults:
        raise click.exceptions.Exit(1)
    held = (
        quantity(result.datasets, "dataset", "datasets"),
        quantity(result.batches, "batch", "batches"),
        quantity(result.documents, "document", "documents"),
        quantity(result.transitions, "transition", "transitions"),
    )
    echo(f"{shown(db)} is sound: {', '.join(held)}")
