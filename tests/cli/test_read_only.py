"""A sound file is checked, copied and listed in a read-only directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from stagecast.client import Stubs
from stagecast.errors import StartError
from stagecast.store.sqlite import copy_file
from stagecast.store.sqlite.connection import open_writer
from stagecast.store.sqlite.database_files import open_existing
from tests.access import make_key
from tests.cli.command import Ended, command, finished
from tests.faults import obeying_modes
from tests.process import running
from tests.watches.pipeline import Pipeline

ANY = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Make a directory and its files read-only for as long as the block."""
    for path in directory.iterdir():
        path.chmod(0o444)
    directory.chmod(0o555)
    try:
        yield
    finally:
        directory.chmod(0o755)
        for path in directory.iterdir():
            path.chmod(0o644)


async def run(*arguments: str | Path) -> Ended:
    return await finished(obeying_modes(command(*arguments)))


@pytest.fixture
async def written(tmp_path: Path) -> Path:
    """The files of a killed server, with its commits in the write-ahead log."""
    db = tmp_path / "written" / "s.db"
    db.parent.mkdir()
    await make_key(db)
    key = await make_key(db)
    async with running(db) as server, Stubs(server.grpc, key=key) as client:
        await Pipeline(client, str(uuid.uuid4())).create(3)
    assert Path(f"{db}-wal").stat().st_size
    return db


@pytest.fixture
def media(tmp_path: Path) -> Path:
    directory = tmp_path / "media"
    directory.mkdir()
    return directory


@pytest.mark.slow
async def test_copy_on_read_only_media_is_checked_copied_and_listed(
    written: Path, media: Path, tmp_path: Path
) -> None:
    db, again = media / "copy.db", tmp_path / "again.db"
    copy_file(written, db, overwrite=False)
    with read_only(media):
        checked = await run("check", "--db", db)
        copied = await run("backup", again, "--db", db)
        listed = await run("keys", "list", "--db", db)
        refused = await run("serve", "--db", db, *ANY)
    assert (checked.code, checked.err) == (0, "")
    assert checked.out == f"{db} is sound: 1 dataset, 1 batch, 3 documents, 5 transitions\n"
    assert (copied.code, copied.err) == (0, "")
    assert again.read_bytes() == db.read_bytes()
    assert (listed.code, len(listed.out.splitlines())) == (0, 2)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == f"Error: cannot open {db}: {media} may not be written by this user\n"
    assert [path.name for path in media.iterdir()] == ["copy.db"]


@pytest.mark.parametrize(
    ("companions", "sound"), [(("-wal", "-shm"), True), (("-wal",), False), (("-shm",), None)]
)
async def test_commits_in_the_wal_are_read_or_reported_if_both_files_are_there(
    written: Path, media: Path, companions: tuple[str, ...], sound: bool | None
) -> None:
    """Without the -wal they are unknown; without its -shm it cannot be read there."""
    db = media / "s.db"
    for suffix in ("", *companions):
        shutil.copy(f"{written}{suffix}", f"{db}{suffix}")
    with read_only(media):
        checked = await run("check", "--db", db)
    if sound:
        assert checked.out == f"{db} is sound: 1 dataset, 1 batch, 3 documents, 5 transitions\n"
    elif sound is None:
        assert checked.out == f"{db} is sound: 0 datasets, 0 batches, 0 documents, 0 transitions\n"
    else:
        assert (checked.code, checked.out) == (1, "")
        [line] = checked.err.splitlines()
        assert line.startswith(f"Error: cannot use {db}: its newest commits are in s.db-wal")


@pytest.mark.slow
async def test_file_of_a_running_server_is_read_with_its_wal(tmp_path: Path) -> None:
    """A user with read permission sees the newest commits."""
    db = tmp_path / "served" / "s.db"
    db.parent.mkdir()
    async with running(db) as server, Stubs(server.grpc) as client:
        with read_only(db.parent):
            for batches in (1, 2):
                await Pipeline(client, str(uuid.uuid4())).create(1)
                checked = await run("check", "--db", db)
                assert f"{batches} batch" in checked.out, checked.err


def test_read_without_locks_fails_if_the_file_was_written(
    tmp_path: Path,
) -> None:
    made, db = tmp_path / "s.db", tmp_path / ("x" * 255)
    open_writer(made).close()
    made.rename(db)
    with open_existing(db) as connection:
        assert connection.execute("SELECT count(*) FROM batches").fetchone() == (0,)
    with (
        pytest.raises(StartError, match="was written while it was read; try again"),
        open_existing(db),
    ):
        os.utime(db, (1, 1))
