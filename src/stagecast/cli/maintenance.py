"""`stagecast backup` and `stagecast check`: maintenance of the file, with or without servers."""

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

_db_option = db_option("SQLite file of the store.")


@click.command(
    epilog=examples("backup copy.db", "backup --db walk.db --overwrite /backups/today.db")
)
@click.argument("file", type=FILE)
@_db_option
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
def backup(file: Path, db: Path, *, overwrite: bool) -> None:
    """Copy the store to FILE, also while servers use it.

    The copy is a consistent snapshot; FILE appears only once it is complete. To restore it, stop
    the servers, remove the -wal and -shm files beside the store, replace the store with the copy,
    and start the servers again. Watches then get a new snapshot.

    Exit code: 0 on success, 1 if the store was not copied, 74 if it was, but the output cannot be
    written.
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
    """Check the store for errors, also while servers use it.

    Runs SQLite's own checks, and compares stored counts with actual ones, documents with the last
    transition in the log, the revisions of each batch, states, stall timers and sequence numbers.
    Prints a line per fault. The file is only read; one of some gigabytes takes minutes, during
    which its -wal grows.

    Exit code: 0 if the store is sound, 1 if it has faults or cannot be read, 74 if the output
    cannot be written.
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
