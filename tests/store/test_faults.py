"""Which errors of the driver are faults of the file, and which are bugs."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlite_utils.utils import sqlite3

from stagecast.errors import StoreBusy
from stagecast.model import ALL
from stagecast.store import ReadTransaction
from stagecast.store.sqlite import store as store_module
from stagecast.store.sqlite.connection import check_soundness, is_damage, translate
from tests.clock import Clock
from tests.conditions import until
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


def _damage(path: Path) -> None:
    """Change the number of free pages, in the header, which raises no error."""
    with path.open("r+b") as file:
        file.seek(36)
        file.write(b"\0\0\0\3")


async def test_damage_that_raises_no_error_is_found(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "s.db"
    async with opened(path, clock):
        pass
    check_soundness(path)
    _damage(path)
    with pytest.raises(StoreBusy, match=r"^the store is damaged: .+ should be 3$"):
        check_soundness(path)


async def test_check_that_outlasts_a_probe_decides_the_next(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, held = threading.Event(), threading.Event()

    def check(path: Path) -> None:
        begun.set()
        held.wait()
        check_soundness(path)

    def fail(_: ReadTransaction) -> None:
        raise errors("CORRUPT")[0]

    monkeypatch.setattr(store_module, "check_soundness", check)
    path = tmp_path / "s.db"
    async with opened(path, clock):
        pass
    _damage(path)
    async with opened(path, clock) as store:
        with pytest.raises(StoreBusy):
            await store.read(fail, visible=ALL)
        impatient = asyncio.create_task(store.probe())
        await until(begun.is_set)
        impatient.cancel()
        await asyncio.wait((impatient,))
        asyncio.get_running_loop().call_later(0.1, held.set)
        with pytest.raises(StoreBusy, match="damaged"):
            await store.probe()


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
