"""`stagecast demo` on real input, from the first report to the last hint."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from stagecast.app import App
from stagecast.cli import main, rest_poll
from stagecast.cli.demo import default_delay_s
from stagecast.cli.target import Credentials
from stagecast.client.datasets import dataset_id as stagecast_id
from stagecast.demo.incidents import FAILS, STALLS
from stagecast.demo.sources import SAMPLES
from tests.cli.command import Ended, on_terminal, stagecast, started
from tests.cli.command import command as command_line
from tests.process import ServerProcess, environment, free_address, running


def answers_of(out: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return both printed REST responses, the documents and the datasets."""
    documents, datasets = re.findall(r"^GET http://\S+\n(.*?)\n\n", out, re.DOTALL | re.MULTILINE)
    return json.loads(documents), json.loads(datasets)


def hint(out: str, word: str) -> list[str]:
    """Return the suggested command with a word, split as by a shell."""
    [line] = [line for line in out.splitlines() if word in line and line.startswith(("  ", "grpc"))]
    return shlex.split(line.partition(": ")[2] if line.startswith("  ") else line)


def arguments_of(command: list[str], name: str) -> list[str]:
    """Return the arguments of a command of stagecast, from its name on."""
    return command[command.index(name) :]


async def demo(tmp_path: Path, *arguments: str | Path) -> Ended:
    return await stagecast("demo", *arguments, TMPDIR=str(tmp_path))


@pytest.mark.slow
async def test_demo_prints_how_to_remove_its_files(tmp_path: Path) -> None:
    ended = await demo(tmp_path)
    assert list(tmp_path.iterdir()) == [Path(hint(ended.out, "rm -r ")[-1])]


@pytest.mark.slow
async def test_demo_ingests_the_samples_and_shows_what_polls_get(tmp_path: Path) -> None:
    ended = await demo(tmp_path, "--rest", "--search", "resume token")
    assert (ended.code, ended.err) == (0, "")
    documents, datasets = answers_of(ended.out)
    assert [row["id"] for row in documents["data"]] == [
        f"samples/{path.name}" for path in sorted(SAMPLES.iterdir())
    ]
    assert {row["indexing_status"] for row in documents["data"]} == {"completed"}
    assert all(row["completed_segments"] == row["total_segments"] > 2 for row in documents["data"])
    assert set(datasets.values()) == {"DATASET_PROCESSING_COMPLETED"}
    assert "for: resume token\nsamples/watch.md, chunk " in ended.out
    page = re.search(r"browser: http://127\.0\.0\.1:\d+(/datasets/\S+/batches/\S+)\n", ended.out)
    assert page, "the page of the batch, while the server of the demo runs"
    assert f"  open:           http://127.0.0.1:8000{page[1]}\n" in ended.out, "and afterwards"
    assert "\\n" not in ended.out, "line breaks of the chunk"


async def test_samples_stall_fail_and_lose_their_server_and_all_succeed(tmp_path: Path) -> None:
    ended = await demo(tmp_path)
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split("\t") for line in ended.out.splitlines() if line.count("\t") == 6]
    revisions = [int(row[0]) for row in rows if row[1]]
    assert revisions == [*range(8, 8 + len(revisions))], "each transition once, in order"
    assert [row[1] for row in rows if row[4] == STALLS][-3:] == [
        "stalled",
        "recovered",
        "succeeded",
    ]
    of_failed = [row[1] for row in rows if row[4] == FAILS and row[1] != "stage_entered"]
    assert of_failed == ["", "started", "failed", "retried", "started", "succeeded"]
    *_, happened, serve, page, watch, poll, remove = ended.out.splitlines()
    restart = re.fullmatch(
        r"6 succeeded; one stalled and one failed at first, as staged\. "
        r"The server was killed meanwhile; "
        r"the watch went on at revision (\d+), nothing missed\.",
        happened,
    )
    assert restart
    assert int(restart[1]) in revisions
    commands = [line.split(":")[0].strip() for line in (serve, page, watch, poll, remove)]
    assert commands == ["serve it again", "open", "watch", "poll", "clean up"]


@pytest.mark.slow
async def test_with_own_files_only_the_restart_of_the_server_is_staged(tmp_path: Path) -> None:
    text = tmp_path / "tides.txt"
    text.write_text("A text.")
    ended = await demo(tmp_path, text)
    assert (ended.code, ended.err) == (0, "")
    assert "1 succeeded. The server was killed meanwhile; the watch went on at " in ended.out
    killed, back = "the demo has killed its server, and starts it again\n", "the server is back\n"
    assert 0 < ended.out.index(killed) < ended.out.index(back) < ended.out.index("1 succeeded")
    assert "staged" not in ended.out
    assert "stalled" not in ended.out


@pytest.mark.slow
async def test_files_of_demo_can_be_served_and_watched(tmp_path: Path) -> None:
    """The suggested commands are run unchanged, on another port."""
    ended = await demo(tmp_path, "--grpcurl")
    db = Path(hint(ended.out, " serve --db ")[-1])
    assert db.parent.parent == tmp_path
    async with running(db) as server:
        watch = arguments_of(hint(ended.out, " watch "), "watch")
        again = await stagecast(*watch, STAGECAST_GRPC=server.grpc)
        assert again.code == 0
        assert again.out.endswith(": 6 succeeded\n")
        requested = hint(ended.out, "GetBatch")
        ids = json.loads(requested[requested.index("-d") + 1])
        assert ids == {"dataset_id": stagecast_id("demo"), "batch_id": watch[2]}
        [url] = [word for word in hint(ended.out, "curl http") if word.startswith("http")]
        answer = await asyncio.to_thread(
            rest_poll.fetch, url.replace("127.0.0.1:8000", server.http), Credentials()
        )
        assert len(answer["data"]) == 6


@pytest.mark.slow
async def test_undecodable_file_fails_alone(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("one.txt", "two.md"):
        (texts / name).write_text(f"The text of {name} is about herons, herons and herons.")
    (texts / "bad.txt").write_bytes(b"caf\xe9")
    ended = await demo(tmp_path, "--rest", texts, texts / "missing.txt")
    assert (ended.code, ended.err) == (1, "")
    assert "2 succeeded, 2 failed. The server was killed" in ended.out
    documents, datasets = answers_of(ended.out)
    reported = {Path(row["id"]).name: row for row in documents["data"]}
    assert {name: row["indexing_status"] for name, row in reported.items()} == {
        "bad.txt": "error",
        "missing.txt": "error",
        "one.txt": "completed",
        "two.md": "completed",
    }
    assert "byte 0xe9 at offset 3, line 1" in reported["bad.txt"]["error"]
    assert "DECODE_ERROR: " in ended.out
    assert "READ_ERROR: No such file or directory" in ended.out
    assert set(datasets.values()) == {"DATASET_PROCESSING_ERRORED"}


@pytest.mark.slow
async def test_demo_escapes_characters_that_stdout_lacks(tmp_path: Path) -> None:
    texts = tmp_path / "texts é"
    texts.mkdir()
    for name in ("café.md", r"caf\xe9.md"):
        (texts / name).write_text("naïve words \U0001f4c4", encoding="utf-8")
    (tmp_path / "é").mkdir()
    variables = {"TMPDIR": str(tmp_path / "é"), "PYTHONIOENCODING": "ascii"}
    ended = await stagecast("demo", "--rest", texts, **variables)
    assert (ended.code, ended.err) == (0, "")
    documents, _datasets = answers_of(ended.out)
    names = [row["id"].rsplit("/")[-1] for row in documents["data"]]
    assert names == [r"caf\\xe9.md", "café.md"]  # ids escape backslashes
    [remove] = [line for line in ended.out.splitlines() if "rm -r " in line]
    [made] = (tmp_path / "é").iterdir()
    remove = remove.partition(": ")[2]
    await asyncio.to_thread(subprocess.run, ["bash", "-c", remove], check=True)
    assert not made.exists()


@pytest.mark.slow
async def test_demo_searches_for_the_given_words(tmp_path: Path) -> None:
    actual = await demo(tmp_path, "--search", "crème gruyère")
    assert "for: crème gruyère\nsamples/onion-tart.md, chunk " in actual.out
    nothing = await demo(tmp_path, "--search", "xyzzy")
    assert nothing.code == 0
    assert "contains all of these words: xyzzy" in nothing.out


@pytest.mark.slow
async def test_demo_uses_the_given_server(server: App, tmp_path: Path) -> None:
    address = server.grpc_address
    ended = await demo(
        tmp_path, "--grpc", address, "--http", server.http_address, "--rest", "--grpcurl"
    )
    assert (ended.code, ended.err) == (0, "")
    assert "killed" not in ended.out
    documents, _datasets = answers_of(ended.out)
    assert {row["indexing_status"] for row in documents["data"]} == {"completed"}
    assert " serve --db " not in ended.out
    assert address in hint(ended.out, "WatchBatch")
    again = await stagecast(*arguments_of(hint(ended.out, " watch "), "watch"))
    assert again.code == 0


@pytest.mark.slow
async def test_demo_survives_a_killed_server(tmp_path: Path) -> None:
    db, grpc, http = tmp_path / "s.db", free_address(), free_address()
    server = await ServerProcess.start(db, grpc=grpc, http=http)
    try:
        options = ("--grpc", grpc, "--http", http, "--delay", "0.05", "--rest")
        async with started("demo", *options, TMPDIR=str(tmp_path)) as command:
            await command.line_with("stage_entered")
            await server.kill()
            await command.line_with("the connection to the server is lost; reconnecting")
            server = await ServerProcess.start(db, grpc=grpc, http=http)
            ended = await command.end()
    finally:
        if server.process.returncode is None:
            await server.kill()
    assert ended.code == 0
    assert "Traceback" not in ended.err
    assert ended.out.count("\tsucceeded\tsucceeded\tcompleted\tsamples/") == 6


@pytest.mark.slow
async def test_demo_reports_an_unreachable_server(server: App, tmp_path: Path) -> None:
    address = free_address()
    ended = await demo(tmp_path, "--grpc", address)
    why = "connection refused; is a server running there?"
    assert (ended.code, ended.err) == (2, f"Error: cannot reach {address}: {why}\n")
    assert not list(tmp_path.glob("stagecast-demo-*"))
    ended = await demo(tmp_path, "--grpc", server.grpc_address, "--http", address, "--rest")
    assert ended.code == 2
    [line] = ended.err.splitlines()
    assert line.startswith(f"Error: cannot get http://{address}/v1/datasets/")
    assert line.endswith(": Connection refused")
    ended = await demo(tmp_path, "--grpc", server.grpc_address, "--http", "a..b:1")
    assert "'a..b' is not a host name" in ended.err
    wrong = server.grpc_address
    ended = await demo(tmp_path, "--grpc", server.grpc_address, "--http", wrong, "--rest")
    assert ended.code == 2
    assert ended.err.endswith("the response is not JSON over HTTP\n")


@pytest.mark.slow
async def test_demo_shows_a_live_table_on_a_terminal(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("One sentence after another. " * 300)
    async with on_terminal("demo", text, tmp_path / "missing.txt") as terminal:
        assert await terminal.end() == 1
    assert re.search(r" (\d\d)/\1 ", terminal.shown)
    assert "1 succeeded, 1 failed" in terminal.shown
    live, _, after = terminal.shown.partition("\x1b[?1049h")[2].partition("\x1b[?1049l")
    assert "in a browser: http://127.0.0.1:" in live
    assert "in a browser: " not in after
    assert ": READ_ERROR: No such file or directory" in " ".join(" ".join(terminal.lines()).split())
    assert " serve --db " in terminal.shown
    assert "the demo has killed its server" not in terminal.shown


# Runs a command and prints its peak memory, without that of pytest.
MEASURED = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(status, usage.ru_maxrss)
"""


def memory_of_demo(tmp_path: Path, text: Path) -> int:
    """Return the peak memory of the demo, in the unit of this system."""
    measured = [sys.executable, "-c", MEASURED, *command_line("demo", text)]
    out = subprocess.check_output(measured, env=environment(TMPDIR=str(tmp_path)), timeout=120)
    status, size = map(int, out.split())
    assert status == 0
    return size


@pytest.mark.slow
@pytest.mark.parametrize("words", ["some words and more, ", '{"a":1},'])
def test_memory_does_not_grow_with_a_text(tmp_path: Path, words: str) -> None:
    """One text is a single line without a space, such as generated JSON."""
    small, large = tmp_path / "small.txt", tmp_path / "large.txt"
    small.write_text(words)
    large.write_text(words * (20_000_000 // len(words)))
    assert memory_of_demo(tmp_path, large) < 1.5 * memory_of_demo(tmp_path, small)


@pytest.mark.slow
def test_text_too_large_for_the_disk_fails_alone(tmp_path: Path) -> None:
    small, large = tmp_path / "small.txt", tmp_path / "large.txt"
    small.write_text("A text.")
    large.write_text("A text.\n" * 1_000_000)
    limited = ["sh", "-c", 'ulimit -f 4096; exec "$@"', "sh", *command_line("demo", small, large)]
    ended = subprocess.run(
        limited, env=environment(TMPDIR=str(tmp_path)), capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    assert f"{large}\tTEMPORARY_FILE_ERROR: File too large\t\n" in ended.stdout
    assert "1 succeeded, 1 failed\n" in ended.stdout


@pytest.mark.parametrize(
    ("documents", "terminal", "slowed"),
    [(1, True, True), (100, True, True), (101, True, False), (1, False, False)],
)
def test_demo_is_slowed_only_for_few_documents_on_a_terminal(
    documents: int, terminal: bool, slowed: bool
) -> None:
    assert (default_delay_s(documents, terminal=terminal) > 0) == slowed


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signal_ends_demo_quietly_and_nothing_is_left(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with started("demo", "--delay", "5", TMPDIR=str(tmp_path)) as command:
        await command.line_with("stage_entered")
        command.process.send_signal(number)
        ended = await command.end()
    assert (ended.code, ended.err) == (128 + number, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
async def test_signal_ends_demo_while_a_rest_answer_is_awaited(server: App, tmp_path: Path) -> None:
    """The response never ends, and never pauses for as long as the timeout."""
    requested = asyncio.Event()

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        requested.set()
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.5)

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as dripping:
        http = "{}:{}".format(*dripping.sockets[0].getsockname())
        options = ("--grpc", server.grpc_address, "--http", http, "--rest")
        async with started("demo", *options, TMPDIR=str(tmp_path)) as command:
            await requested.wait()
            command.process.send_signal(signal.SIGTERM)
            ended = await command.end()
    assert (ended.code, ended.err) == (128 + signal.SIGTERM, "")
    assert not list(tmp_path.glob("stagecast-demo-*"))


async def test_slow_rest_response_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_poll, "_TOTAL_TIMEOUT_S", 0.1)

    over, closed = asyncio.Event(), asyncio.Event()

    async def begin(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n ")
        await over.wait()
        writer.close()
        closed.set()

    async with await asyncio.start_server(begin, "127.0.0.1", 0) as dripping:
        url = "http://{}:{}/".format(*dripping.sockets[0].getsockname())
        with pytest.raises(OSError, match=r"no complete response within 0\.1 s"):
            await rest_poll.fetch_on_thread(url, Credentials())
        over.set()
        await closed.wait()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["EMPTY"], "no *.txt or *.md files in"),
        (["--http", "127.0.0.1:8000"], "--http requires --grpc"),
        (["--key", "k"], "--key requires --grpc"),
        (["--tls"], "--tls requires --grpc"),
        (["--ca", "c.pem"], "--ca requires --grpc"),
        (["--rest", "--grpc", "unix:/tmp/a"], "--http is required with unix:/tmp/a"),
        (["--search", " "], "--search must contain printable words"),
        (["--delay", "-1"], "'--delay'"),
        (["--grpc", "here"], "'here' is not HOST:PORT"),
    ],
)
def test_demo_refuses_invalid_options(tmp_path: Path, arguments: list[str], why: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    result = CliRunner().invoke(
        main, ["demo", *(str(empty) if word == "EMPTY" else word for word in arguments)]
    )
    assert result.exit_code == 2
    assert why in result.output


def test_demo_advises_no_socket_for_http() -> None:
    result = CliRunner().invoke(main, ["demo", "--grpc", "127.0.0.1:1", "--http", "foo"])
    assert result.exit_code == 2
    assert "'foo' is not HOST:PORT" in result.output
    assert "unix:" not in result.output


def test_demo_ignores_credentials_of_the_environment_without_a_server() -> None:
    result = CliRunner(env={"STAGECAST_KEY": "k", "STAGECAST_TLS": "1"}).invoke(
        main, ["demo", "--search", " "]
    )
    assert "--search must contain printable words" in result.output


def test_every_option_of_every_command_has_help() -> None:
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command
        assert command.help
        for parameter in command.params:
            assert parameter.param_type_name == "argument" or parameter.to_info_dict()["help"]
