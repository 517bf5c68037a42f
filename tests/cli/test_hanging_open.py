"""A signal ends every command on a file whose disk hangs while the file is opened."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from stagecast.store.sqlite.connection import open_writer
from tests.cli.command import started
from tests.conditions import until
from tests.faults import hanging_open

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")

SERVE = ("serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")
EXPOSED = ("serve", "--grpc", "0.0.0.0:0", "--http", "127.0.0.1:0")


@pytest.mark.parametrize(
    ("command", "number", "code", "waited_for"),
    [
        (SERVE, signal.SIGTERM, 0, "opening {db}"),
        pytest.param(SERVE, signal.SIGINT, 0, "opening {db}", marks=pytest.mark.slow),
        pytest.param(EXPOSED, signal.SIGHUP, 0, "opening {db}", marks=pytest.mark.slow),
        pytest.param(
            (*SERVE, "--processes", "2"), signal.SIGTERM, 0, "opening {db}", marks=pytest.mark.slow
        ),
        (("check",), signal.SIGTERM, 143, "reading {db}"),
        pytest.param(
            ("backup", "{db}.copy"),
            signal.SIGINT,
            130,
            "copying {db} to {db}.copy",
            marks=pytest.mark.slow,
        ),
        pytest.param(("keys", "list"), signal.SIGINT, 130, "reading {db}", marks=pytest.mark.slow),
        pytest.param(
            ("keys", "create"), signal.SIGHUP, 129, "opening {db}", marks=pytest.mark.slow
        ),
        pytest.param(
            ("keys", "revoke", "1"), signal.SIGTERM, 143, "reading {db}", marks=pytest.mark.slow
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
async def test_signal_ends_the_command_and_a_line_names_what_was_waited_for(
    tmp_path: Path, command: tuple[str, ...], number: signal.Signals, code: int, waited_for: str
) -> None:
    db = tmp_path / "s.db"
    open_writer(db).close()
    arguments = [argument.format(db=db) for argument in command]
    with hanging_open(db) as is_hanging:
        async with started(*arguments, "--db", db) as running:
            await until(is_hanging)
            running.process.send_signal(number)
            ended = await running.end()
    assert (ended.code, ended.out) == (code, "")
    expected = f"gave up {waited_for.format(db=db)}: it has not ended 5 s after the signal"
    assert expected in ended.err
    assert "Traceback" not in ended.err
    if code:
        assert len(ended.err.splitlines()) == 1
