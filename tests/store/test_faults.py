"""Which errors of the driver are faults of the file, and which are bugs."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlite_utils.utils import sqlite3

from stagecast.errors import StoreBusy
from stagecast.model import ALL
from stagecast.store import ReadTransaction
from stagecast.store.sqlite.connection import check_soundness, is_damage, translate
from tests.clock import Clock
from tests.store.test_integrity import opened

DAMAGE = ["CORRUPT", "NOTADB"]
FAULTS = ["BUSY", "LOCKED", "NOMEM", "READONLY", "IOERR", "FULL", "CANTOPEN", "PROTOCOL", *DAMAGE]
BUGS = ["ERROR", "CONSTRAINT", "MISMATCH", "MISUSE", "RANGE"]


def errors(name: str) -> list[Exception]:
    """Return errors with a code, as primary and as extended code."""
    actual: list[Exception] = []
    for more in (0, 3 << 8):
        error = sqlite3.OperationalError("what the driver says")
        error.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{name}") | more
        actual.append(error)
    return actual


@pytest.mark.parametrize("name", FAULTS)
def test_fault_of_the_file_is_a_busy_store(name: str) -> None:
    for error in errors(name):
        translated = translate(error)
        assert isinstance(translated, StoreBusy)
        assert translated.retry_after_s > 0
        assert "what the driver says" in str(translated)
        assert is_damage(error) is (name in DAMAGE)


@pytest.mark.parametrize("name", BUGS)
def test_bug_stays_unchanged(name: str) -> None:
    for error in (*errors(name), sqlite3.ProgrammingError("no code"), KeyError("no driver")):
        assert translate(error) is error
        assert not is_damage(error)


async def test_damage_that_raises_no_error_is_found(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "s.db"
    async with opened(path, clock):
        pass
    check_soundness(path)
    with path.open("r+b") as file:
        file.seek(36)  # the number of free pages, in the header
        file.write(b"\0\0\0\3")
    with pytest.raises(StoreBusy, match=r"^the store is damaged: .+ should be 3$"):
        check_soundness(path)


async def test_read_after_a_schema_error_is_repeated(tmp_path: Path, clock: Clock) -> None:
    pending = errors("ERROR")

    def read(_: ReadTransaction) -> str:
        if pending:
            raise pending.pop()
        return "read"

    async with opened(tmp_path / "s.db", clock) as store:
        with pytest.raises(sqlite3.OperationalError, match="what the driver says"):
            await store.read(read, visible=ALL)  # a bug fails again
        pending += errors("ERROR")[:1]
        assert await store.read(read, visible=ALL) == "read"
