"""The floors of the store: rows written blindly to a plain SQLite table, and read back.

The file has the options of the store: WAL, and `synchronous=FULL`.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from sqlite_utils.utils import sqlite3

from tests.bench.peer import answer_lines

_ROW_BYTES = 250  # about the size of a transition in the log
_TIME = 1_800_000_000_000_000  # microseconds


class _Floor:
    """The commands; `do` of a question names the method, which returns the times that it took."""

    async def answer(self, question: dict[str, Any]) -> object:
        method = getattr(self, question.pop("do"))
        cpu, elapsed = time.process_time(), time.perf_counter()
        method(**question)
        return {
            "cpu_s": time.process_time() - cpu,
            "elapsed_s": time.perf_counter() - elapsed,
        }

    def nothing(self) -> None:
        pass

    def append(self, path: str, rows: int, commit_every: int) -> None:
        """Append rows, in commits of so many."""
        connection = _open(path)
        connection.execute("CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, row BLOB)")
        row = (bytes(_ROW_BYTES),)
        for start in range(0, rows, commit_every):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO log (row) VALUES (?)", [row] * min(commit_every, rows - start)
            )
            connection.execute("COMMIT")
        connection.close()

    def update(self, path: str) -> None:
        """Change each row of `filled`, and append as many rows to the log, in one commit."""
        connection = _open(path)
        connection.execute("CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, row BLOB)")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE filled SET c1 = c1 + 1")
        connection.execute("INSERT INTO log (row) SELECT zeroblob(?) FROM filled", (_ROW_BYTES,))
        connection.execute("COMMIT")
        connection.close()

    def fill(self, path: str, rows: int, columns: int) -> None:
        """Create a table of rows like those of the store: an id, a few times, small numbers."""
        connection = _open(path)
        names = ", ".join(f"c{number}" for number in range(columns))
        parameters = ", ".join("?" * columns)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"CREATE TABLE filled (id INTEGER PRIMARY KEY, {names})")
        connection.executemany(
            f"INSERT INTO filled ({names}) VALUES ({parameters})",  # noqa: S608 - our own names
            (_row(number, columns) for number in range(rows)),
        )
        connection.execute("COMMIT")
        connection.close()

    def select(self, path: str, times: int) -> None:
        """Read all rows, so many times."""
        connection = _open(path)
        for _ in range(times):
            for _ in connection.execute("SELECT * FROM filled ORDER BY id"):
                pass
        connection.close()


def _open(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(Path(path), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _row(number: int, columns: int) -> tuple[object, ...]:
    """Return the values of a row: an id, five times, three nulls, and small numbers."""
    values = (f"papers/{number:06}.pdf", *(_TIME + number for _ in range(5)), None, None, None)
    return (*values, *(n % 7 for n in range(columns - len(values))))


if __name__ == "__main__":
    asyncio.run(answer_lines(_Floor().answer))
