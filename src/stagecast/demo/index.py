"""The full-text index that the demo fills: an SQLite file with FTS5.

It stands for the vector store of a real pipeline. All calls run in one thread that owns the
connection, so that neither the event loop nor another worker waits for the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from stagecast.demo.stages import IngestionError
from stagecast.failures import reason_of

T = TypeVar("T")

# A keyword is concentrated: it occurs most often in each chunk that has it. Words that are
# in most chunks, or that are rare, say nothing about a text.
_KEYWORD = """
SELECT term FROM terms
WHERE length(term) BETWEEN 5 AND 24 AND term NOT GLOB '*[0-9]*'
ORDER BY cnt >= 3 AND 2 * doc <= (SELECT count(*) FROM chunks) DESC, 1.0 * cnt / doc DESC, term
LIMIT 1
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A chunk that a search found; `number` counts the chunks of its document from 1."""

    document_id: str
    number: int
    text: str


class Index:
    """Chunks of documents and a search over them. Use it in an `async with` block.

    Args:
        path: the file; it is created if missing.

    Raises:
        IngestionError: the file cannot be used; every method raises this.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stagecast-index")

    async def __aenter__(self) -> Self:
        self._db = await self._run(lambda: _open(self.path))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._run(self._db.close)
        self._thread.shutdown()

    async def add(self, document_id: str, first: int, chunks: Sequence[str]) -> None:
        """Put chunks into the index, numbered from `first`; existing ones are replaced."""
        rows = [
            {"document_id": document_id, "number": number, "text": chunk}
            for number, chunk in enumerate(chunks, first)
        ]
        await self._run(lambda: self._db.table("chunks").insert_all(rows, replace=True))

    async def search(self, words: str) -> Hit | None:
        """Return the best match among the chunks that have all the words, or `None`."""
        return await self._run(lambda: _search(self._db, words))

    async def find_keyword(self) -> str | None:
        """Return a word that is worth searching for in these texts, or `None`."""
        return await self._run(lambda: _find_keyword(self._db))

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except sqlite3.Error as error:
            raise IngestionError(
                "INDEX_ERROR", f"cannot use {self.path}: {reason_of(error)}"
            ) from error


def _open(path: Path) -> Database:
    with contextlib.ExitStack() as undo:
        db = Database(path)
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
        db.execute("CREATE VIRTUAL TABLE IF NOT EXISTS terms USING fts5vocab(chunks_fts, row)")
        undo.pop_all()
    return db


def _search(db: Database, words: str) -> Hit | None:
    query = db.quote_fts(words)
    if not query:
        return None
    for row in db.table("chunks").search(query, limit=1):
        return Hit(document_id=row["document_id"], number=row["number"], text=row["text"])
    return None


def _find_keyword(db: Database) -> str | None:
    for (word,) in db.execute(_KEYWORD):
        return str(word)
    return None
