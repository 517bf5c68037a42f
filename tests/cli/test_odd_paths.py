"""Commands accept any path, or report in one line what is wrong with it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stagecast.cli import main
from stagecast.paths import shown
from stagecast.store.sqlite.connection import open_writer
from tests.process import running
from tests.test_paths import ODD

ANY = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")
COMMANDS = {
    "serve": ("serve", *ANY),
    "keys create": ("keys", "create"),
    "keys list": ("keys", "list"),
    "keys revoke": ("keys", "revoke", "1"),
    "check": ("check",),
    "backup": ("backup", "copy.db"),
}


def directory(path: Path) -> Path:
    path.mkdir()
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def unix_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.fspath(path))
    return path


def device(_path: Path) -> Path:
    return Path("/dev/null")


def loop(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


def dangling(path: Path) -> Path:
    path.symlink_to("nowhere/s.db")
    return path


def below_a_file(path: Path) -> Path:
    path.touch()
    return path / "s.db"


def far_below_a_file(path: Path) -> Path:
    path.touch()
    return path / "a" / "s.db"


def nowhere(path: Path) -> Path:
    return path / "s.db"


def name_that_is_too_long(path: Path) -> Path:
    return path.with_name("x" * 256)


def path_that_is_too_long(path: Path) -> Path:
    return path / "/".join(["x" * 200] * 25)


KINDS = {
    directory: "it is a directory",
    pipe: "it is not a regular file",
    unix_socket: "it is not a regular file",
    device: "it is not a regular file",
    loop: "Too many levels of symbolic links",
    dangling: "there is no directory",
    below_a_file: "is not a directory",
    far_below_a_file: "Not a directory",
    nowhere: "there is no directory",
    name_that_is_too_long: "File name too long",
    path_that_is_too_long: "File name too long",
}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def line_of(result: Result) -> str:
    """Return the only line of stderr of a failed command."""
    assert isinstance(result.exception, SystemExit), result.exc_info
    assert (result.exit_code, result.stdout) == (1, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


def listing(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*"))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_impossible_store_path_is_reported_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    make: Callable[[Path], Path],
) -> None:
    monkeypatch.chdir(tmp_path)
    db = make(tmp_path / "it")
    before = listing(tmp_path)
    line = line_of(run(*COMMANDS[command], "--db", db))
    assert str(db) in line
    assert KINDS[make] in line
    assert listing(tmp_path) == before


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)], ids=["new", "overwrite"])
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_impossible_copy_path_is_reported_in_one_line(
    tmp_path: Path, make: Callable[[Path], Path], overwrite: tuple[str, ...]
) -> None:
    db = tmp_path / "s.db"
    open_writer(db).close()
    target = make(tmp_path / "it")
    before = listing(tmp_path)
    line = line_of(run("backup", target, "--db", db, *overwrite))
    assert line.startswith(f"Error: cannot copy to {target}: ")
    assert KINDS[make] in line
    assert listing(tmp_path) == before


@pytest.mark.parametrize("command", ["serve", "keys create"])
def test_name_too_long_for_companion_files_creates_no_file(tmp_path: Path, command: str) -> None:
    deep = tmp_path
    while len(os.fsencode(deep)) < 400:
        deep /= "d" * 50
    deep.mkdir(parents=True)
    for db, why in (
        (tmp_path / ("x" * 248), "its name has 248 bytes, and SQLite takes at most 247"),
        (deep / ("x" * 110), "bytes, and SQLite takes at most 504"),
    ):
        assert why in line_of(run(*COMMANDS[command], "--db", db))
        assert not db.exists()
    if command == "keys create":
        assert run(*COMMANDS[command], "--db", tmp_path / ("x" * 247)).exit_code == 0


@pytest.mark.parametrize("name", [*ODD, "x" * 252, "x" * 255], ids=[*map(ascii, ODD), "252", "255"])
def test_copy_of_any_name_is_created_and_checked(tmp_path: Path, name: str) -> None:
    """A name too long for companion files is not in use, and is read without locks."""
    db, copy = tmp_path / "s.db", tmp_path / name
    assert run("keys", "create", "--db", db).exit_code == 0
    made = run("backup", copy, "--db", db)
    assert (made.exit_code, made.stderr) == (0, "")
    assert made.stdout.startswith(f"{shown(copy)} is a copy of {db}: ")
    checked = run("check", "--db", copy)
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert checked.stdout.startswith(f"{shown(copy)} is sound: ")
    assert len(run("keys", "list", "--db", copy).stdout.splitlines()) == 1
    assert listing(tmp_path) == sorted([db, copy])


async def test_server_accepts_a_file_of_any_name(tmp_path: Path) -> None:
    db = tmp_path / os.fsdecode(b"a?b#c%20d \n\xff:memory:")
    async with running(db) as server:
        assert await server.stop() == 0
    assert listing(tmp_path) == sorted([db, Path(f"{db}.log")])


def test_file_is_created_at_the_target_of_a_link(tmp_path: Path) -> None:
    """So are its companion files, and a copy."""
    target, db = tmp_path / "disk", tmp_path / "s.db"
    target.mkdir()
    db.symlink_to(target / "real.db")
    copy = tmp_path / "copy.db"
    copy.symlink_to(target / "copied.db")
    assert run("keys", "create", "--db", db).exit_code == 0
    assert run("backup", copy, "--db", db).exit_code == 0
    assert run("backup", copy, "--db", db, "--overwrite").exit_code == 0
    assert run("check", "--db", copy).exit_code == 0
    assert db.is_symlink()
    assert copy.is_symlink()
    assert sorted(path.name for path in target.iterdir()) == ["copied.db", "real.db"]


@pytest.mark.parametrize("command", COMMANDS)
def test_deleted_current_directory_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    line = line_of(run(*COMMANDS[command], "--db", "s.db"))
    assert "s.db: the current directory was deleted" in line or "copy.db: the curr" in line


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        (("--grpc", "unix:s"), "cannot resolve 'unix:s': the current directory was deleted"),
        (
            ("--grpc", "127.0.0.1:0", "--processes", "2"),
            "cannot start processes: the current directory was deleted",
        ),
    ],
)
def test_serve_reports_a_deleted_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], reported: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = run("serve", "--db", tmp_path / "s.db", "--http", "127.0.0.1:0", *options)
    assert isinstance(result.exception, SystemExit), result.exc_info
    assert result.stderr.splitlines()[-1].endswith(reported)


@pytest.mark.parametrize(
    "arguments",
    [
        *((*command, "--db", "") for command in COMMANDS.values()),
        ("backup", ""),
        ("serve", *ANY, "--tls-cert", ""),
        ("serve", *ANY, "--jwt-key", ""),
        ("demo", ""),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_empty_path_is_refused(arguments: tuple[str, ...]) -> None:
    """It comes from an unset shell variable; as a path it would be the current directory."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert "must not be empty" in result.stderr
