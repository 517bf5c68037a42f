"""The file of a setting is read or refused with one line, within a time limit."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stagecast import paths
from stagecast.errors import StartError
from stagecast.escaping import is_printable
from stagecast.paths import read_file, shown

ODD = [
    *("a b", r"two\nlines", "a?b#c%20d", "file:x", ":memory:", "ä\u3000ö", "two\nlines"),
    os.fsdecode(b"\xff\xfe"),
]


@pytest.mark.parametrize("name", ODD)
def test_path_is_shown_on_one_line_and_no_two_look_the_same(name: str) -> None:
    assert is_printable(shown(Path(name)))
    others = {shown(other) for other in ODD if other != name}
    assert shown(name) not in others
    assert shown(Path("plain and ä.pem")) == "plain and ä.pem"


@pytest.mark.parametrize("name", ODD)
def test_file_of_any_name_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    assert read_file(tmp_path / name) == b"content"


def _directory(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.fspath(path))


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(paths._MAX_BYTES + 1)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_directory, "Is a directory"),
        (_loop, "Too many levels of symbolic links"),
        (_dangling, "No such file or directory"),
        (_socket, "No such device or address"),
        (_large, "it is larger than 16 MiB"),
    ],
)
def test_unreadable_file_is_named_with_the_reason(
    tmp_path: Path, make: Callable[[Path], None], why: str
) -> None:
    path = tmp_path / "it"
    make(path)
    with pytest.raises(StartError) as raised:
        read_file(path)
    assert str(raised.value) == f"cannot read {path}: {why}"


def test_path_that_the_system_refuses_is_an_error(tmp_path: Path) -> None:
    for path, why in (
        (tmp_path / ("x" * 256), "File name too long"),
        (tmp_path / "/".join(["x" * 200] * 30), "File name too long"),
        (Path(__file__) / "x", "Not a directory"),
    ):
        with pytest.raises(StartError, match=why):
            read_file(path)


def test_pipe_of_a_shell_is_read_to_its_end() -> None:
    """Such as `<(command)`, which may begin to write later."""
    reading, writing = os.pipe()

    def write() -> None:
        os.write(writing, b"secret")
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert read_file(Path(f"/dev/fd/{reading}")) == b"secret"
    finally:
        writer.join()
        os.close(reading)


def test_silent_pipe_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert read_file(pipe) == b"", "it has no writer"
    monkeypatch.setattr(paths, "_TIMEOUT_S", 0.01)
    writer = os.open(pipe, os.O_RDWR)
    try:
        with pytest.raises(StartError, match="no data for"):
            read_file(pipe)
    finally:
        os.close(writer)
