"""What is kept encoded in a file."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from sqlite_utils.utils import sqlite3

from stagecast.store.sqlite.migrations import TO_ENCODE


def encoded_of(path: Path) -> list[tuple[Any, ...]]:
    """Return what is kept encoded of all documents and transitions."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        documents = connection.execute(
            "SELECT batch, position, encoded_identity, encoded_rest, encoder_version, "
            "encoded_revision, encoded_progress_seq FROM documents"
        ).fetchall()
        transitions = connection.execute(
            "SELECT batch, revision, encoded_condition, encoder_version FROM transitions"
        ).fetchall()
    return [*documents, *transitions]


def left_to_encode(path: Path) -> int:
    """Return how many rows are to be encoded."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {table} WHERE {which}").fetchone()[0]  # noqa: S608 - our own
            for table, which in TO_ENCODE.items()
        ]
    return sum(counts)
