"""`stagecast backup` and `stagecast check`: maintenance of the file, with or without servers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import click

from stagecast.cli.params import FILE, db_option, examples
from stagecast.cli.render import formatting
from stagecast.cli.render.formatting import quantity
from stagecast.errors import StagecastError
from stagecast.maintenance import copy_file, inspect_file
from stagecast.paths import shown
from stagecast.runtime.event_loop import run
from stagecast.runtime.exits import CommandFailed
from stagecast.runtime.stdio import echo
from stagecast.threads import run_cancellable

T = TypeVar("T")

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
    copy = partial(copy_file, db, file, overwrite=overwrite)
    size = run_on_file(copy, doing=f"copying {shown(db)} to {shown(file)}")
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
    result = run_on_file(partial(inspect_file, db), doing=f"reading {shown(db)}")
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


def run_on_file(work: Callable[[], T], *, doing: str) -> T:
    """Return the result of work on a file whose disk may hang; a signal ends it.

    Raises:
        click.ClickException: it failed.
        click.exceptions.Exit: there was a signal.
    """
    try:
        return run(run_cancellable(work, doing=doing))
    except (StagecastError, CommandFailed) as error:  # the latter has another exit code
        raise click.ClickException(str(error)) from error
