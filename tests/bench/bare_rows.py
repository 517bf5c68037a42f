"""The floor of the store: rows appended to a plain SQLite table, without reading anything."""

from __future__ import annotations

import contextlib
from pathlib import Path

from sqlite_utils.utils import sqlite3

_ROW_BYTES = 250  # about the size of a transition in the log


def append(path: Path, rows: int, *, commit_every: int) -> None:
    """Append rows, flushed to disk with each commit as in the store."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, row BLOB)")
        row = (bytes(_ROW_BYTES),)
        for start in range(0, rows, commit_every):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO log (row) VALUES (?)", [row] * min(commit_every, rows - start)
            )
            connection.execute("COMMIT")
