"""Files that are deleted or replaced while open are detected, also behind links."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from stagecast.errors import StoreBusy
from stagecast.model import ALL
from stagecast.store.sqlite.connection import open_writer
from stagecast.store.sqlite.file_guard import OpenFiles
from tests.clock import Clock
from tests.store.test_integrity import opened


@pytest.mark.parametrize("linked", [False, True], ids=["by_its_name", "by_a_link"])
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_missing_file_is_detected_until_it_is_back(
    tmp_path: Path, suffix: str, linked: bool
) -> None:
    path, link = tmp_path / "s.db", tmp_path / "linked.db"
    link.symlink_to(path)
    with contextlib.closing(open_writer(link if linked else path)):
        files = OpenFiles(link if linked else path)
        files.check()
        file, aside = Path(f"{path}{suffix}"), tmp_path / "aside"
        file.rename(aside)
        with pytest.raises(StoreBusy, match="was deleted or replaced"):
            files.check()
        file.touch()
        with pytest.raises(StoreBusy, match="was deleted or replaced"):
            files.check()
        aside.rename(file)
        files.check()


async def test_new_reader_does_not_open_a_replaced_file(tmp_path: Path, clock: Clock) -> None:
    path, aside, other = tmp_path / "s.db", tmp_path / "aside", tmp_path / "other.db"
    open_writer(other).close()
    async with opened(path, clock) as store:
        path.rename(aside)
        other.rename(path)
        with pytest.raises(StoreBusy, match="was deleted or replaced"):
            await store.read(lambda tx: tx.list_keys(), visible=ALL)
        aside.rename(path)
        assert not await store.read(lambda tx: tx.list_keys(), visible=ALL)
