"""`stagecast backup` and `stagecast check`: what is done with the file, with or without servers."""

from __future__ import annotations

from pathlib import Path

import click

from stagecast.cli import wording
from stagecast.cli.naming import examples
from stagecast.cli.options import FILE, db_option
from stagecast.cli.signals import exit_on_signals
from stagecast.cli.stdio import echo
from stagecast.cli.wording import quantity
from stagecast.errors import StartError
from stagecast.paths import shown
from stagecast.upkeep import copy_file, inspect_file

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
            found = inspect_file(db)
    except StartError as error:
        raise click.ClickException(str(error)) from error
    for fault in found.faults:
        echo(wording.shown(fault))
    if found.faults:
        raise click.exceptions.Exit(1)
    held = (
        quantity(found.datasets, "dataset", "datasets"),
        quantity(found.batches, "batch", "batches"),
        quantity(found.documents, "document", "documents"),
        quantity(found.transitions, "transition", "transitions"),
    )
    echo(f"{shown(db)} is sound: {', '.join(held)}")
