"""Commands whose output fails end in the same way, and no unseen key is created."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import sqlite3
import sys
import termios
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.v1 import status_service_pb2 as s
from tests.cli.batch import Batch
from tests.cli.command import command, on_terminal, stagecast, started
from tests.conditions import until
from tests.process import environment, free_address, running

FULL = "Error: cannot write to stdout: No space left on device\n"
OFFLINE = ["--help", "--version", "keys list", "keys create", "check", "backup", "demo"]
CLIENT_COMMANDS = [
    "status",
    "batches",
    "history",
    "watch",
    "watch --json",
    "status --json",
    "pause",
]


def words(requested: str, tmp_path: Path, *names: str) -> list[str]:
    """Return a command with its arguments."""
    name, *options = requested.split()
    if name in ("keys", "check"):
        return [name, *options, "--db", str(tmp_path / "k.db")]
    if name == "backup":
        return [name, "--db", str(tmp_path / "k.db"), str(tmp_path / "copy.db")]
    return [name, *(names if name not in ("batches", "demo") else ()), *options]


async def ended_with(
    arguments: list[str], stdout: int | None, *, redirection: str = "", **variables: str
) -> tuple[int, str]:
    """Run a command with a stdout or shell redirections; return its exit code and stderr."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f'exec "$@" {redirection}', "bash", *command(*arguments)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**variables),
    )
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode()


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """Give both ends of a pipe that is full."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 512)
        os.set_blocking(writer, True)
        yield reader, writer
    finally:
        for descriptor in (reader, writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@pytest.fixture
async def keys_db(tmp_path: Path) -> Path:
    db = tmp_path / "k.db"
    assert (await stagecast("keys", "create", "--db", db)).code == 0
    return db


@pytest.mark.slow
@pytest.mark.parametrize("requested", OFFLINE)
async def test_full_disk_is_reported_in_one_line(
    tmp_path: Path, keys_db: Path, requested: str
) -> None:
    with full_disk() as stdout:
        code, err = await ended_with(words(requested, tmp_path), stdout, TMPDIR=str(tmp_path))
    assert (code, err[-len(FULL) :]) == (74, FULL)
    assert "Traceback" not in err
    assert not list(tmp_path.glob("stagecast-demo-*"))


@pytest.mark.parametrize("requested", CLIENT_COMMANDS)
async def test_full_disk_is_reported_in_one_line_by_client_commands(
    server: App, batch: Batch, tmp_path: Path, requested: str
) -> None:
    arguments = words(requested, tmp_path, *batch.name)
    with full_disk() as stdout:
        reported = await ended_with(arguments, stdout, STAGECAST_GRPC=server.grpc_address)
    assert reported == (74, FULL)


@pytest.mark.parametrize("requested", ["--help", "keys list", "demo"])
async def test_closed_pipe_ends_a_command_without_a_message(
    tmp_path: Path, keys_db: Path, requested: str
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        reported = await ended_with(words(requested, tmp_path), writer, TMPDIR=str(tmp_path))
    finally:
        os.close(writer)
    assert reported == (74, "")


@pytest.mark.parametrize("requested", ["watch", "watch --follow"])
async def test_idle_watch_ends_when_its_reader_closes_the_pipe(
    server: App, batch: Batch, tmp_path: Path, requested: str
) -> None:
    reader, writer = os.pipe()
    with contextlib.closing(os.fdopen(reader, "rb")) as head:
        arguments = words(requested, tmp_path, *batch.name)
        watching = asyncio.ensure_future(
            ended_with(arguments, writer, STAGECAST_GRPC=server.grpc_address)
        )
        os.set_blocking(reader, False)
        await until(lambda: bool(head.readline()))
    try:
        assert await watching == (74, "")
    finally:
        os.close(writer)


@pytest.mark.parametrize("requested", ["--version", "keys list"])
async def test_closed_stdout_is_an_error(tmp_path: Path, keys_db: Path, requested: str) -> None:
    reported = await ended_with(words(requested, tmp_path), None, redirection=">&-")
    assert reported == (74, "Error: cannot write to stdout: Bad file descriptor\n")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "<&- >&- 2>&-"])
async def test_failing_stderr_does_not_change_the_exit_code(redirection: str) -> None:
    code, _ = await ended_with(["status"], asyncio.subprocess.DEVNULL, redirection=redirection)
    assert code == 2


async def test_closed_terminal_ends_a_live_table_at_once(server: App, batch: Batch) -> None:
    leader, follower = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *command("watch", *batch.name, "--grpc", server.grpc_address),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=follower,
        stderr=asyncio.subprocess.PIPE,
        env=environment(TERM="xterm", COLUMNS="80", LINES="24"),
    )
    os.close(follower)
    shown = b""
    async with asyncio.timeout(60):
        while b"2 pending" not in shown:
            shown += await asyncio.to_thread(os.read, leader, 65_536)
        os.close(leader)  # the batch does not change: painting the next picture fails
        _, err = await process.communicate()
    assert process.returncode == 74
    assert err.decode() == "Error: cannot write to stdout: Input/output error\n"


async def test_live_table_uses_the_alternate_screen_and_leaves_its_last_picture(
    server: App, batch: Batch
) -> None:
    async with on_terminal("watch", *batch.name, "--grpc", server.grpc_address) as terminal:
        await terminal.wait_for("2 pending")
        await batch.succeed("a", "b")
        assert await terminal.end() == 0
    before, _, rest = terminal.shown.partition("\x1b[?1049h")
    pictures, _, after = rest.partition("\x1b[?1049l")
    assert before == ""
    assert "2 pending" in pictures
    assert "2 succeeded" in after


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_numbers_of_closed_standard_descriptors_are_not_reused(tmp_path: Path) -> None:
    address = free_address()
    arguments = ("serve", "--db", tmp_path / "s.db", "--grpc", address, "--http", "127.0.0.1:0")
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", *command(*arguments)),
        env=environment(),
    )
    try:
        await _serving(address)
        open_files = [Path(f"/proc/{process.pid}/fd/{n}").readlink() for n in range(3)]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert open_files == [Path("/dev/null")] * 3


async def _serving(address: str) -> None:
    """Wait until a server answers."""
    answered: list[s.ListDatasetsResponse] = []

    async def ask() -> None:
        async with Stubs(address) as client:
            request = s.ListDatasetsRequest()
            with contextlib.suppress(Exception):
                answered.append(await client.status.ListDatasets(request, timeout=5))

    await until(lambda: bool(answered), meanwhile=ask)


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("why", ["No space left on device", "stdout is not read"])
async def test_server_runs_and_warns_if_its_ready_line_cannot_be_written(
    tmp_path: Path, processes: str, why: str
) -> None:
    if processes != "1" and sys.platform != "linux":
        return
    address = free_address()
    where = ("--db", tmp_path / "s.db", "--grpc", address, "--http", "127.0.0.1:0")
    with full_disk() as full, full_pipe() as (_, unread):
        process = await asyncio.create_subprocess_exec(
            *command("serve", *where, "--processes", processes),
            stdout=full if why.startswith("No") else unread,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(60):
                while why not in (line := (await process.stderr.readline()).decode()):
                    assert line, "it has ended"
            await _serving(address)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
    assert " WARNING " in line
    assert process.returncode == 0


@contextlib.asynccontextmanager
async def serving_unread(
    tmp_path: Path, *options: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a server with a full stderr that is not read."""
    with full_pipe() as (_, unread):
        process = await asyncio.create_subprocess_exec(
            *command("serve", "--db", tmp_path / "s.db", *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=unread,
            env=environment(),
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_unread_log_blocks_neither_serving_nor_shutdown(
    tmp_path: Path, processes: str
) -> None:
    if processes != "1" and sys.platform != "linux":
        return
    grpc, http = free_address(), free_address()
    options = ("--grpc", grpc, "--http", http, "--processes", processes)
    async with serving_unread(tmp_path, *options) as server:
        assert server.stdout is not None
        async with asyncio.timeout(60):
            assert await server.stdout.readline()
        # Every process logs the first key, and may log garbage.
        assert (await stagecast("keys", "create", "--db", tmp_path / "s.db")).code == 0
        for _ in range(20):
            host, port = http.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"\x00 garbage\r\n\r\n")
            await reader.read()
            writer.close()
        ended = await stagecast("batches", "--grpc", grpc)
        assert "requires a key" in ended.err
        server.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await server.wait() == 0


@contextlib.contextmanager
def stopped_terminal() -> Iterator[tuple[int, int]]:
    """Give both ends of a terminal whose output is stopped, as by Ctrl-S."""
    leader, follower = pty.openpty()
    try:
        termios.tcflow(follower, termios.TCOOFF)
        yield leader, follower
    finally:
        os.close(leader)
        os.close(follower)


def sleeps(process: asyncio.subprocess.Process) -> bool:
    """Return whether a process is blocked in `select` or a write."""
    where = Path(f"/proc/{process.pid}/wchan").read_text()
    return where.startswith(("poll_schedule", "pipe_write", "n_tty"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("stdout", [full_pipe, stopped_terminal])
@pytest.mark.parametrize("requested", ["keys create", "check", "batches", "status", "watch"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_command_with_unread_stdout_ends_at_the_first_signal(
    server: App,
    batch: Batch,
    keys_db: Path,
    tmp_path: Path,
    stdout: Callable[[], contextlib.AbstractContextManager[tuple[int, int]]],
    requested: str,
    number: signal.Signals,
) -> None:
    with stdout() as (_, unread):
        process = await asyncio.create_subprocess_exec(
            *command(*words(requested, tmp_path, *batch.name)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=unread,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(STAGECAST_GRPC=server.grpc_address, TERM="xterm"),
        )
        try:
            await until(lambda: sleeps(process))
            process.send_signal(number)
            async with asyncio.timeout(60):
                code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert code in (128 + number, -number)


@pytest.mark.slow
@pytest.mark.parametrize("requested", ["status", "keys create", "serve"])
async def test_unread_stderr_does_not_block_a_command(
    server: App, tmp_path: Path, requested: str
) -> None:
    arguments = {
        "status": ["status", "7c9e6679-7425-40de-944b-e07fc1f90ae7", "nope"],
        "keys create": words("keys create", tmp_path),
        "serve": ["serve", "--db", str(tmp_path / "s.db"), "--grpc", server.grpc_address],
    }
    with full_pipe() as (_, unread):
        process = await asyncio.create_subprocess_exec(
            *command(*arguments[requested]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=unread,
            env=environment(STAGECAST_GRPC=server.grpc_address),
        )
        try:
            async with asyncio.timeout(60):
                out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
    expected = {"status": 2, "keys create": 0, "serve": 1}
    assert process.returncode == expected[requested]
    assert out.startswith(b"stagecast_") == (requested == "keys create")


@pytest.mark.slow
async def test_key_that_cannot_be_printed_is_not_created(tmp_path: Path) -> None:
    db = tmp_path / "k.db"
    async with running(db) as server:
        with full_disk() as stdout:
            code, err = await ended_with(["keys", "create", "--db", str(db)], stdout)
        assert (code, err[-len(FULL) :]) == (74, FULL)
        listed = await stagecast("keys", "list", "--db", db)
        assert (listed.code, listed.out) == (0, "")
        assert (await stagecast("batches", "--grpc", server.grpc)).code == 0


@pytest.mark.slow
async def test_printed_key_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    db = tmp_path / "k.db"
    first = await stagecast("keys", "create", "--db", db)
    with full_pipe() as (reader, writer):
        process = await asyncio.create_subprocess_exec(
            *command("keys", "create", "--db", db),
            stdout=writer,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        os.close(writer)
        assert process.stderr is not None
        async with asyncio.timeout(60):
            assert b"It is shown only once:" in await process.stderr.readline()
        with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with asyncio.timeout(60):
                printed = b""
                while chunk := await asyncio.to_thread(os.read, reader, 65_536):
                    printed += chunk
                err = (await process.stderr.read()).decode()
                await process.wait()
    assert printed.lstrip(b"x").startswith(b"stagecast_")
    assert process.returncode == 1
    assert err.startswith("Error: the key was not created: ")
    listed = await stagecast("keys", "list", "--db", db)
    assert [line.split("\t")[1] for line in listed.out.splitlines()] == [first.out[:18]]


@pytest.mark.parametrize(
    ("encoding", "ids"),
    [
        ("utf-8", ["報告\u3000書", "café", r"caf\u00e9", r"caf\xe9"]),
        ("latin-1", [r"\u5831\u544a\u3000\u66f8", "café", r"caf\\u00e9", r"caf\\xe9"]),
        ("ascii", [r"\u5831\u544a\u3000\u66f8", r"caf\u00e9", r"caf\\u00e9", r"caf\\xe9"]),
    ],
)
async def test_unencodable_characters_in_ids_are_escaped_unambiguously(
    server: App, client: Stubs, dataset_id: str, encoding: str, ids: list[str]
) -> None:
    batch = Batch(client, dataset_id)
    await batch.create("報告\u3000書", "café", r"caf\u00e9", r"caf\xe9")
    variables = {"STAGECAST_GRPC": server.grpc_address, "PYTHONIOENCODING": encoding}
    async with started("status", *batch.name, **variables) as status:
        assert status.process.stdout is not None
        lines = (await status.process.stdout.read()).decode(encoding).splitlines()
        ended = await status.end()
    assert (ended.code, ended.err) == (0, "")
    assert [line.split("\t")[0] for line in lines[1:]] == ids
