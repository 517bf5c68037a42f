"""Which errors of the driver are faults of the file, and which are bugs."""

from __future__ import annotations

import pytest
from sqlite_utils.utils import sqlite3

from stagecast.errors import StoreBusy
from stagecast.store.sqlite.connection import is_damage, translate

DAMAGE = ["CORRUPT", "NOTADB"]
FAULTS = ["BUSY", "LOCKED", "NOMEM", "READONLY", "IOERR", "FULL", "CANTOPEN", "PROTOCOL", *DAMAGE]
BUGS = ["ERROR", "CONSTRAINT", "MISMATCH", "MISUSE", "RANGE"]


def errors(name: str) -> list[Exception]:
    """Return errors with a code, by itself and with a byte above it that tells more."""
    found = []
    for more in (0, 3 << 8):
        error = sqlite3.OperationalError("what the driver says")
        error.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{name}") | more
        found.append(error)
    return found


@pytest.mark.parametrize("name", FAULTS)
def test_fault_of_the_file_is_a_busy_store(name: str) -> None:
    for error in errors(name):
        told = translate(error)
        assert isinstance(told, StoreBusy)
        assert told.retry_after_s > 0
        assert "what the driver says" in str(told)
        assert is_damage(error) is (name in DAMAGE)


@pytest.mark.parametrize("name", BUGS)
def test_bug_stays_what_it_is(name: str) -> None:
    for error in (*errors(name), sqlite3.ProgrammingError("no code"), KeyError("no driver")):
        assert translate(error) is error
        assert not is_damage(error)
