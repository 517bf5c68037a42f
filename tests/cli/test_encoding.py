"""Errors of commands on a stderr whose encoding lacks some of their characters."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from tests.cli.command import command
from tests.process import environment


async def stderr_of_failure(encoding: str, *arguments: str | Path, code: int = 1) -> str:
    """Return the stderr of a command that fails, in an encoding."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        stderr=asyncio.subprocess.PIPE,
        env=environment(PYTHONIOENCODING=encoding),
    )
    async with asyncio.timeout(240):
        _, reported = await process.communicate()
    assert process.returncode == code
    return reported.decode(encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
async def test_command_in_an_error_can_be_copied_in_any_encoding(
    tmp_path: Path, encoding: str
) -> None:
    db = tmp_path / "é € '.db"
    addresses = ("--grpc", "0.0.0.0:0", "--http", "127.0.0.1:0")
    reported = await stderr_of_failure(encoding, "serve", "--db", db, *addresses)
    typed = re.search("keys create --db (.*)', or use --jwt-key", reported)
    assert typed is not None, reported
    echo = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"printf %s {typed[1]}"), stdout=asyncio.subprocess.PIPE
    )
    assert (await echo.communicate())[0] == os.fsencode(db)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "name"),
    [("utf-8", "é €.db"), ("latin-1", r"é \u20ac.db"), ("ascii", r"\u00e9 \u20ac.db")],
)
async def test_unencodable_characters_on_stderr_are_escaped(
    tmp_path: Path, encoding: str, name: str
) -> None:
    db = tmp_path / "é €.db"
    db.write_bytes(b"x" * 10_000)
    serve = ("serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")
    for arguments in (("check",), serve):
        reported = await stderr_of_failure(encoding, *arguments, "--db", db)
        assert reported.startswith(f"Error: cannot use {tmp_path}/{name}: ")


@pytest.mark.parametrize("arguments", [("--é\n",), ("é\n",), ("check", "--é\n")])
async def test_wrong_use_is_escaped_before_and_after_the_command(
    arguments: tuple[str, ...],
) -> None:
    reported = await stderr_of_failure("ascii", *arguments, code=2)
    last = reported.splitlines()[-1]
    assert re.search(r"[ '](--)?\\u00e9\\n('\.)?$", last), last  # older click does not quote it
