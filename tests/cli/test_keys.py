"""`stagecast keys` as an administrator uses it, with and without servers on the file."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from stagecast.client import Stubs
from stagecast.v1 import status_service_pb2 as s
from tests.cli.command import Ended, finished, on_terminal, stagecast
from tests.conditions import until
from tests.process import running
from tests.rpc.calls import Calls, contents, refused
from tests.store.test_migrations import FILES

KEY = re.compile(r"(stagecast_[0-9a-z]{8})_[0-9A-Za-z]{38}\n")
DATASET = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
OTHER = "8d0f778a-8536-41ef-a55c-f180a2f01bf8"


async def create(db: Path, *options: str) -> str:
    made = await stagecast("keys", "create", "--db", db, *options)
    assert made.code == 0, made.err
    assert KEY.fullmatch(made.out)
    return made.out.strip()


async def listed(db: Path) -> list[dict[str, object]]:
    shown = await stagecast("keys", "list", "--db", db, "--json")
    assert shown.code == 0, shown.err
    return [json.loads(line) for line in shown.out.splitlines()]


async def test_create_creates_the_file_and_prints_only_the_key(tmp_path: Path) -> None:
    db = tmp_path / "new.db"
    made = await stagecast("keys", "create", "--db", db)
    match = KEY.fullmatch(made.out)
    assert match, made
    assert made.err == (
        f"key {match[1]}: read,report,control; datasets: all; expires: never. "
        "It is shown only once:\n"
    )
    assert db.exists()


@pytest.mark.slow
async def test_create_stores_only_the_digest_of_a_key(tmp_path: Path) -> None:
    db = tmp_path / "k.db"
    key = await create(db)
    [row] = contents(db)["api_keys"]
    assert hashlib.sha256(key.encode()).digest() in row
    for file in tmp_path.iterdir():
        assert key[19:].encode() not in file.read_bytes()


@pytest.mark.slow
async def test_list_shows_everything_but_the_key(tmp_path: Path) -> None:
    db = tmp_path / "k.db"
    wide = await create(db, "--name", "Wide, and 'quoted'")
    narrow = await create(
        db, "--scope", "report,read", "--dataset", DATASET.upper(), "--expires", "90d"
    )
    first, second = await listed(db)
    assert first["prefix"] == wide[:18]
    assert (first["state"], first["datasets"], first["expires_at"]) == ("valid", None, None)
    assert first["name"] == "Wide, and 'quoted'"
    assert (second["scopes"], second["datasets"]) == (["read", "report"], [DATASET])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(second["expires_at"]))
    lines = (await stagecast("keys", "list", "--db", db)).out
    rows = [line.split("\t") for line in lines.splitlines()]
    assert [row[:5] for row in rows] == [
        ["1", wide[:18], "valid", "read,report,control", "all"],
        ["2", narrow[:18], "valid", "read,report", DATASET],
    ]
    assert wide[19:] not in lines
    async with on_terminal("keys", "list", "--db", db) as terminal:
        assert await terminal.end() == 0
    assert wide[19:] not in terminal.shown
    assert wide[:18] in terminal.shown
    assert narrow[:18] in terminal.shown


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["60", "100"])
async def test_list_breaks_no_word_on_a_narrow_terminal(tmp_path: Path, columns: str) -> None:
    db = tmp_path / "k.db"
    await create(db, "--name", "first,second")
    await create(db, "--dataset", DATASET, "--dataset", OTHER, "--expires", "90d")
    async with on_terminal("keys", "list", "--db", db, COLUMNS=columns) as terminal:
        assert await terminal.end() == 0
    words = " ".join(terminal.lines()).replace(",", " ").split()
    for word in (DATASET, OTHER, "valid", "read", "report", "control", "never", "all", "first"):
        assert word in words
    assert "first,second" in terminal.shown
    assert any(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", word) for word in words)


@pytest.mark.slow
@pytest.mark.parametrize("named", ["prefix", "bare prefix", "id", "key"])
async def test_revoke_accepts_prefix_id_or_key(tmp_path: Path, named: str) -> None:
    db = tmp_path / "k.db"
    key, other = await create(db), await create(db)
    name = {"prefix": key[:18], "bare prefix": key[10:18], "id": "1", "key": key}[named]
    revoked = await stagecast("keys", "revoke", "--db", db, name)
    assert (revoked.code, revoked.out) == (0, f"key {key[:18]} is revoked\n")
    again = await stagecast("keys", "revoke", "--db", db, name)
    assert (again.code, again.out) == (0, f"key {key[:18]} was already revoked\n")
    states = {shown["prefix"]: shown["state"] for shown in await listed(db)}
    assert states == {key[:18]: "revoked", other[:18]: "valid"}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--scope", "write"], "invalid scopes 'write'; use one or more of read,report,control"),
        (["--scope", ""], "invalid scopes ''"),
        (["--dataset", "7c9e6679-7425-40de-944b-e07fc1f90ae"], "mistyped UUID?"),
        (["--dataset", ""], "must not be empty"),
        (["--expires", "soon"], "invalid duration 'soon'; use a form such as 12h, 90d, 4w or 1y"),
        (["--expires", "0d"], "invalid duration"),
        (["--expires", "101y"], "invalid duration"),
        (["--name", "a\nb"], "printable"),
        (["--name", "a" * 101], "printable"),
    ],
)
async def test_create_refuses_invalid_options(tmp_path: Path, options: list[str], why: str) -> None:
    ended = await stagecast("keys", "create", "--db", tmp_path / "k.db", *options)
    assert (ended.code, ended.out) == (2, "")
    assert why in ended.err
    assert not (tmp_path / "k.db").exists()


async def test_list_and_revoke_create_no_file(tmp_path: Path) -> None:
    db = tmp_path / "missing.db"
    for requested in (("list",), ("revoke", "1")):
        ended = await stagecast("keys", requested[0], "--db", db, *requested[1:])
        assert (ended.code, ended.err) == (1, f"Error: cannot open {db}: there is no such file\n")
    assert not db.exists()


@pytest.mark.slow
async def test_revoke_does_not_print_a_mistyped_key(tmp_path: Path) -> None:
    db = tmp_path / "k.db"
    key = await create(db)
    ended = await stagecast("keys", "revoke", "--db", db, key[:-1] + "!")
    assert ended.code == 1
    assert key[18:-1] not in ended.err
    assert f"'stagecast keys list --db {db}' shows all" in ended.err


@pytest.mark.slow
async def test_running_server_notices_created_and_revoked_keys(tmp_path: Path) -> None:
    db = tmp_path / "k.db"
    async with running(db) as server:
        key = await create(db, "--scope", "read")
        await _until(server.grpc, "CREDENTIALS_MISSING", key=None)
        await _until(server.grpc, "DATASET_NOT_FOUND", key=key)
        assert (await stagecast("keys", "revoke", "--db", db, key[:18])).code == 0
        await _until(server.grpc, "CREDENTIALS_INVALID", key=key)
        assert await server.stop() == 0
    log = Path(f"{db}.log").read_text()
    assert "the store has keys; calls need credentials from now on" in log
    assert key[19:] not in log


async def _until(address: str, reason: str, *, key: str | None) -> None:
    """Wait until a read is refused for a reason."""
    reported: list[str] = []

    async def read() -> None:
        request = s.GetDatasetRequest(dataset_id=DATASET)
        async with Stubs(address, key=key) as client:
            reported.append((await refused(client.status.GetDataset(request))).reason)

    await until(lambda: reported[-1:] == [reason], meanwhile=read)


def assert_names_the_ways_out(ended: Ended, db: Path) -> None:
    assert (ended.code, ended.out) == (1, "")
    assert "can be reached from other machines" in ended.err
    assert f"stagecast keys create --db {db}" in ended.err
    assert "--insecure" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--grpc", "--http"])
@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
async def test_public_address_requires_a_key(tmp_path: Path, option: str, address: str) -> None:
    db = tmp_path / "s.db"
    addresses = {"grpc": "127.0.0.1:0", "http": "127.0.0.1:0"} | {option[2:]: address}
    requested = [part for name, at in addresses.items() for part in (f"--{name}", at)]
    assert_names_the_ways_out(await stagecast("serve", "--db", db, *requested), db)
    assert not list(tmp_path.iterdir()), "a start that is refused makes no file"
    await create(db)
    async with running(db, **addresses) as server:
        port = server.grpc.rpartition(":")[2]
        await _until(f"127.0.0.1:{port}", "CREDENTIALS_MISSING", key=None)


@pytest.mark.slow
async def test_public_address_of_several_processes_requires_a_key(tmp_path: Path) -> None:
    db = tmp_path / "s.db"
    requested = ("serve", "--db", db, "--grpc", "0.0.0.0:0", "--http", "127.0.0.1:0")
    assert_names_the_ways_out(await stagecast(*requested, "--processes", "2"), db)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("older", [True, False], ids=["older", "empty"])
async def test_refused_start_leaves_the_file_unchanged(tmp_path: Path, older: bool) -> None:
    db = tmp_path / "s.db"
    before = (FILES / "main_path.sqlite").read_bytes() if older else b""
    db.write_bytes(before)
    requested = ("serve", "--db", db, "--grpc", "0.0.0.0:0", "--http", "127.0.0.1:0")
    assert_names_the_ways_out(await stagecast(*requested), db)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


async def test_list_of_an_older_file_is_empty_and_leaves_it_unchanged(tmp_path: Path) -> None:
    db = tmp_path / "s.db"
    shutil.copy(FILES / "main_path.sqlite", db)
    ended = await stagecast("keys", "list", "--db", db, "--json")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [
        (FILES / "main_path.sqlite").read_bytes()
    ]


NEWER = """
from stagecast.__main__ import main
from stagecast.store.sqlite.migrations import breaking, migrations

{declared}
def later(db):
    db.execute("CREATE TABLE later (id INTEGER) STRICT")

migrations()(later)
main()
"""


async def _create_by_newer_release(db: Path, declared: str = "") -> str:
    """Return a key that a newer release has created, which has upgraded the file."""
    program = NEWER.format(declared=declared)
    made = await finished([sys.executable, "-c", program, "keys", "create", "--db", str(db)])
    assert made.code == 0, made.err
    return made.out.strip()


@pytest.mark.slow
async def test_older_server_goes_on_once_a_newer_release_has_created_a_key(
    tmp_path: Path, dataset_id: str
) -> None:
    db = tmp_path / "s.db"
    async with running(db) as server:
        key = await _create_by_newer_release(db)
        await _until(server.grpc, "DATASET_NOT_FOUND", key=key)
        async with Stubs(server.grpc, key=key) as client:
            await Calls(client, dataset_id).create("a")
    async with running(db) as server, Stubs(server.grpc, key=key) as client:
        assert (await Calls(client, dataset_id).batch()).counts.total == 1


@pytest.mark.slow
async def test_older_server_refuses_writes_once_a_newer_release_has_broken_with_it(
    tmp_path: Path, dataset_id: str
) -> None:
    db = tmp_path / "s.db"
    async with running(db) as server:
        key = await _create_by_newer_release(db, "@breaking")
        await _until(server.grpc, "DATASET_NOT_FOUND", key=key)
        async with Stubs(server.grpc, key=key) as client:
            refusal = await refused(Calls(client, dataset_id).create("a"))
    assert refusal.reason == "STORE_BUSY"
    assert "made by a newer release" in refusal.message


@pytest.mark.slow
async def test_insecure_server_requires_no_key_until_there_is_one(tmp_path: Path) -> None:
    db = tmp_path / "s.db"
    async with running(db, "--insecure", grpc="0.0.0.0:0") as server:
        address = f"127.0.0.1:{server.grpc.rpartition(':')[2]}"
        await _until(address, "DATASET_NOT_FOUND", key="whatever")
        await create(db)
        await _until(address, "CREDENTIALS_MISSING", key=None)
