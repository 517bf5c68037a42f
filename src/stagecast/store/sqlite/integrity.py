"""Holding a file against what must be true of it: what is wrong, in words, with the ids.

Everything is read in one transaction, so it is as of one moment while servers go on writing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from stagecast.failures import reason_of
from stagecast.store.sqlite import rows
from stagecast.store.sqlite.connection import Connection, DriverError
from stagecast.store.sqlite.database_files import check_current, open_stored
from stagecast.store.sqlite.invariants import INVARIANTS

_MAX_FAULTS = 100  # of a kind that are told

_HELD = """
    SELECT (SELECT count(*) FROM datasets WHERE dataset_id >= '0'),
        (SELECT count(*) FROM batches WHERE state > 0),
        (SELECT total(pending + running + paused + succeeded + failed + stopped) FROM datasets
            WHERE dataset_id >= '0'),
        (SELECT total(revision - kept_from + 1) FROM batches WHERE state > 0)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What a file holds, and what is wrong with it, a line each."""

    datasets: int
    batches: int
    documents: int
    transitions: int
    faults: Sequence[str]


def inspect_file(path: Path) -> Inspection:
    """Look at all of a file, which servers may be using; nothing is written to it.

    Raises:
        StartError: it is not there, cannot be read, or is not one of stagecast's, of this release.
    """
    with open_stored(path) as connection:
        check_current(connection, path)
        connection.execute("BEGIN")
        held = (0, 0, 0, 0)
        faults: list[str] = []
        try:
            held = connection.execute(_HELD).fetchone()
            for fault in _find_faults(connection):
                faults.append(fault)  # noqa: PERF402 - those before an error count
        except DriverError as error:
            faults.append(f"it cannot be read to the end: {reason_of(error)}")
    datasets, batches, documents, transitions = map(int, held)
    return Inspection(
        datasets=datasets,
        batches=batches,
        documents=documents,
        transitions=transitions,
        faults=faults,
    )


def _find_faults(connection: Connection) -> Iterator[str]:
    yield from _tell(connection, "PRAGMA integrity_check", _tell_damage)
    yield from _tell(connection, "PRAGMA foreign_key_check", _tell_orphan)
    for invariant in INVARIANTS:
        yield from _tell(connection, invariant.sql, invariant.tell)


def _tell(connection: Connection, sql: str, tell: Callable[[rows.Row], str]) -> Iterator[str]:
    rows = connection.execute(sql)
    yield from filter(None, map(tell, islice(rows, _MAX_FAULTS)))
    if rows.fetchone() is not None:
        yield "… and more of the kind"


def _tell_damage(row: rows.Row) -> str:
    return "" if row == ("ok",) else f"damaged: {row[0]}".replace("\n", " ")


def _tell_orphan(row: rows.Row) -> str:
    table, key, parent, _ = row
    return f"a row of {table} ({'its key' if key is None else key}) names none of {parent}"
