"""The full-text index that the demo fills: an SQLite file with FTS5.

It stands for the vector store of a real pipeline. Workers in several threads share it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Self, TypeVar

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from stagecast.demo.stages import IngestionError
from stagecast.failures import reason_of

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A chunk that a search found; `number` counts the chunks of its document from 1."""

    document_id: str
    number: int
    text: str


class Index:
    """Chunks of documents and a search over them. Use it in a `with` block.

    Args:
        path: the file; it is created if missing.

    Raises:
        IngestionError: the file cannot be used; every method raises this.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()  # a connection serves one thread at a time

    def __enter__(self) -> Self:
        self._db = self._run(lambda: _open(self.path))
        return self

    def __exit__(self, *_: object) -> None:
        self._run(lambda: self._db.close())

    def add(self, document_id: str, first: int, chunks: Sequence[str]) -> None:
        """Put chunks into the index, numbered from `first`; existing ones are replaced."""
        rows = [
            {"document_id": document_id, "number": number, "text": chunk}
            for number, chunk in enumerate(chunks, first)
        ]
        self._run(lambda: self._db.table("chunks").insert_all(rows, replace=True))

    def search(self, words: str) -> Hit | None:
        """Return the best match among the chunks that have all the words, or `None`."""
        return self._run(lambda: _search(self._db, words))

    def _run(self, call: Callable[[], T]) -> T:
        try:
            with self._lock:
                return call()
        except sqlite3.Error as error:
            raise IngestionError(
                "INDEX_ERROR", f"cannot use {self.path}: {reason_of(error)}"
            ) from error


def _open(path: Path) -> Database:
    with contextlib.ExitStack() as undo:
        db = Database(sqlite3.connect(path, check_same_thread=False))
        undo.callback(db.close)
        # The index can be rebuilt from the texts, so commits need not survive a power failure.
        db.execute("PRAGMA synchronous = OFF")
        chunks = db.table("chunks", pk=("document_id", "number"))
        chunks.create(
            {"document_id": str, "number": int, "text": str},
            pk=("document_id", "number"),
            if_not_exists=True,
        )
        # `creme` also finds `crème`.
        tokenize = "unicode61 remove_diacritics 2"
        chunks.enable_fts(["text"], create_triggers=True, tokenize=tokenize, replace=True)
        undo.pop_all()
    return db


def _search(db: Database, words: str) -> Hit | None:
    query = db.quote_fts(words)
    if not query:
        return None
    for row in db.table("chunks").search(query, limit=1):
        return Hit(document_id=row["document_id"], number=row["number"], text=row["text"])
    return None
