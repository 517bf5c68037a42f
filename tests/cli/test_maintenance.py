"""`stagecast backup` and `stagecast check`, with and without running servers."""

from __future__ import annotations

import asyncio
import random
import signal
import uuid
from pathlib import Path

import pytest

from stagecast.client import Stubs
from stagecast.store.sqlite import inspect_file
from tests.cli.command import command, finished, stagecast, started
from tests.conditions import until
from tests.process import running
from tests.rpc.calls import execute
from tests.watches.pipeline import STAGES, Pipeline


@pytest.fixture
async def db(tmp_path: Path) -> Path:
    """The file of a killed server, with its write-ahead log."""
    db = tmp_path / "s.db"
    async with running(db) as server, Stubs(server.grpc) as client:
        pipeline = Pipeline(client, str(uuid.uuid4()))
        await pipeline.create(3)
        for stage in STAGES:
            await pipeline.stage(stage)
    return db


async def test_check_of_a_sound_file_prints_its_contents(db: Path) -> None:
    ended = await stagecast("check", "--db", db)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{db} is sound: 1 dataset, 1 batch, 3 documents, 20 transitions\n"


async def test_check_prints_one_line_per_fault(db: Path) -> None:
    execute(db, "UPDATE batches SET failed = 4, revision = 19")
    ended = await stagecast("check", "--db", db)
    assert (ended.code, ended.err) == (1, "")
    lines = ended.out.splitlines()
    assert len(lines) > 2
    assert all(line.startswith(("batch '", "dataset '", "document '")) for line in lines)
    assert any("failed is 4, not 0" in line for line in lines)


@pytest.mark.parametrize("command", ["check", "backup"])
async def test_invalid_store_is_reported_in_one_line(tmp_path: Path, command: str) -> None:
    text = tmp_path / "text.db"
    text.write_text("This is no database at all.")
    arguments = ("backup", tmp_path / "c.db") if command == "backup" else ("check",)
    for path, why in (
        (tmp_path / "no.db", "there is no such file"),
        (text, "not a stagecast database"),
    ):
        ended = await stagecast(*arguments, "--db", path)
        assert (ended.code, ended.out) == (1, "")
        [line] = ended.err.splitlines()
        assert line.startswith("Error: ")
        assert why in line
    assert [each.name for each in tmp_path.iterdir()] == ["text.db"]


@pytest.mark.parametrize("arguments", [("check",), ("keys", "list")], ids=" ".join)
async def test_too_few_file_descriptors_are_an_ordinary_failure(
    db: Path, arguments: tuple[str, ...]
) -> None:
    limited = ("bash", "-c", 'ulimit -n 20; exec "$@"', "bash")
    ended = await finished([*limited, *command(*arguments, "--db", db)])
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Error: the limit of open files is 20, and the command needs")


async def test_file_can_be_set_in_the_environment(db: Path) -> None:
    ended = await stagecast("check", STAGECAST_DB=str(db))
    assert ended.code == 0


@pytest.mark.slow
async def test_backup_prints_its_path_and_overwrites_only_on_request(db: Path) -> None:
    copy = db.with_name("copy.db")
    ended = await stagecast("backup", copy, "--db", db)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{copy} is a copy of {db}: {copy.stat().st_size:,} bytes\n"
    ended = await stagecast("backup", copy, "--db", db)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"Error: {copy} already exists; use --overwrite to replace it\n"
    ended = await stagecast("backup", copy, "--db", db, "--overwrite")
    assert (ended.code, ended.err) == (0, "")
    assert (await stagecast("check", "--db", copy)).code == 0


@pytest.mark.slow
async def test_servers_keep_working_during_backup_and_check(tmp_path: Path) -> None:
    db = tmp_path / "s.db"
    async with (
        running(db) as one,
        running(db) as other,
        Stubs(one.grpc) as client,
        Stubs(other.grpc) as other_client,
    ):
        pipelines = [Pipeline(each, str(uuid.uuid4())) for each in (client, other_client)]
        for pipeline in pipelines:
            await pipeline.create(300, more_documents_follow=True)
        async with asyncio.TaskGroup() as reports:
            for number, pipeline in enumerate(pipelines):
                reports.create_task(pipeline.run(random.Random(number)))
            for number in range(3):
                acknowledged = sum(len(pipeline.acknowledged) for pipeline in pipelines)
                copy = tmp_path / f"c-{number}.db"
                assert (await stagecast("backup", copy, "--db", db)).code == 0
                checked = await stagecast("check", "--db", db)
                assert checked.code == 0, checked.out
                actual = inspect_file(copy)
                assert list(actual.faults) == []
                assert actual.transitions >= acknowledged
    assert list(inspect_file(db).faults) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_interrupted_backup_leaves_no_files(
    db: Path, tmp_path: Path, number: signal.Signals
) -> None:
    execute(db, "CREATE TABLE filler AS SELECT zeroblob(100000000) AS content")
    target = tmp_path / "copies"
    target.mkdir()
    async with started("backup", target / "copy.db", "--db", db) as backup:
        await until(lambda: any(path.stat().st_size for path in target.iterdir()))
        backup.process.send_signal(number)
        ended = await backup.end()
    assert (ended.code, ended.err) == (128 + number, "")
    assert list(target.iterdir()) == []


@pytest.mark.slow
async def test_backup_to_a_full_disk_names_both_files(tmp_path: Path) -> None:
    db, copy = tmp_path / "s.db", tmp_path / "copy.db"
    assert (await stagecast("keys", "create", "--db", db)).code == 0
    line = command("backup", "--db", db, copy)
    ended = await finished(["bash", "-c", 'ulimit -f 64; exec "$@"', "bash", *line])
    assert ended.code == 1
    assert ended.err.startswith(f"Error: cannot copy {db} to {copy}: ")
    assert not copy.exists()
