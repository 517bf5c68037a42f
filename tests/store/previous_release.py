"""Writes of the release before: it fills the columns that it knows, in rows of any release."""

from __future__ import annotations

import contextlib
from pathlib import Path

from sqlite_utils.utils import sqlite3

# The tables that its calls write, in the order of their references, with their keys.
_TABLES = {
    "datasets": "id",
    "batches": "id",
    "documents": "batch, position",
    "transitions": "batch, revision",
    "progress_epochs": "batch, server_epoch",
}


def write_as_before(source: Path, target: Path) -> None:
    """Make the target, an older copy of the source, like it, but for what that release knows not.

    In one transaction; a server may use the target meanwhile.
    """
    with contextlib.closing(
        sqlite3.connect(target, isolation_level=None, timeout=60)
    ) as connection:
        connection.execute("ATTACH ? AS newer", (str(source),))
        connection.execute("BEGIN IMMEDIATE")
        for table, key in _TABLES.items():
            columns = _columns(connection, table)
            known = [name for name in columns if not name.startswith(("encode", "step_"))]
            if table == "datasets":
                known.remove("display_name")
            names = ", ".join(known)
            rows = connection.execute(f"SELECT {names} FROM newer.{table}").fetchall()  # noqa: S608 - our own
            assignments = ", ".join(f"{name} = excluded.{name}" for name in known)
            # Like that release, it leaves rows alone that did not change.
            changed = " OR ".join(f"{table}.{name} IS NOT excluded.{name}" for name in known)
            connection.executemany(
                f"INSERT INTO main.{table} ({names}) VALUES ({', '.join('?' * len(known))}) "  # noqa: S608 - our own
                f"ON CONFLICT ({key}) DO UPDATE SET {assignments} WHERE {changed}",
                rows,
            )
        connection.execute("COMMIT")


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns of a table but generated ones."""
    return [name for _, name, *_ in connection.execute(f"PRAGMA main.table_info({table})")]
