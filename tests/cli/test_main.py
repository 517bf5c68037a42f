"""What all commands have in common: help, and errors without a server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import click
import pytest
from click.testing import CliRunner

from stagecast.app import App
from stagecast.cli import main
from tests.cli.command import Ended, finished, stagecast, started
from tests.process import free_address

CONTEXT = click.Context(main)
DATASET = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
CLIENT_COMMANDS = [
    ("watch", DATASET, "x"),
    ("status", DATASET),
    ("status", DATASET, "x"),
    ("batches",),
    ("history", DATASET, "x"),
    ("pause", DATASET, "x"),
    ("resume", DATASET, "x"),
    ("stop", DATASET, "x"),
    ("retry", DATASET, "x"),
]


def test_commands_are_listed_in_order_of_use() -> None:
    shown = CliRunner().invoke(main, ["--help"]).output.partition("Commands:\n")[2]
    assert [line.split()[0] for line in shown.splitlines()] == [
        *("demo", "serve", "watch", "status", "batches", "history"),
        *("pause", "resume", "stop", "retry"),
        *("keys", "backup", "check"),
    ]


@pytest.mark.parametrize("name", main.list_commands(CONTEXT))
def test_every_command_has_help_with_examples(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert f"Examples:\n    stagecast {name}" in result.output
    command = main.get_command(CONTEXT, name)
    assert command
    arguments = [p.name for p in command.params if p.param_type_name == "argument"]
    text = command.help or ""
    assert all(str(argument).upper().removesuffix("S") in text for argument in arguments)


@pytest.mark.parametrize("requested", CLIENT_COMMANDS, ids=" ".join)
def test_unreachable_server_is_reported_in_one_line(requested: tuple[str, ...]) -> None:
    address = free_address()
    result = CliRunner().invoke(main, requested, env={"STAGECAST_GRPC": address})
    why = "connection refused; is a server running there?"
    assert (result.exit_code, result.output) == (2, f"Error: cannot reach {address}: {why}\n")


@pytest.mark.parametrize("requested", CLIENT_COMMANDS, ids=" ".join)
def test_invalid_address_or_id_is_refused(requested: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*requested, "--grpc", "here"])
    assert result.exit_code == 2
    assert "'here' is not HOST:PORT" in result.output
    for bad, why in [("", "must not be empty"), (os.fsdecode(b"caf\xe9"), "must be UTF-8")]:
        if requested != ("batches",):
            result = CliRunner().invoke(main, [*requested[:-1], bad])
            assert result.exit_code == 2
            assert why in result.output


async def test_http_address_for_grpc_is_reported_in_one_line(server: App) -> None:
    ended = await stagecast("status", DATASET, "--grpc", server.http_address)
    assert (ended.code, ended.out) == (2, "")
    [line] = ended.err.splitlines()
    assert line.startswith("Error: ")


@pytest.mark.parametrize("requested", [("status", DATASET), ("stop", DATASET, "x")], ids=" ".join)
async def test_interrupt_ends_a_waiting_command(requested: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with started(*requested, "--grpc", address) as command:
            connection, _ = await asyncio.get_running_loop().sock_accept(silent)
            with connection:
                command.process.send_signal(signal.SIGINT)
                ended = await command.end()
    assert (ended.code, ended.out, ended.err) == (130, "", "")


async def test_group_without_a_command_shows_its_help_in_lines() -> None:
    ended = await stagecast("keys")
    assert "\n  Create, list and revoke API keys" in ended.err
    assert r"\n" not in ended.err


@pytest.mark.parametrize("module", ["stagecast.cli.main", "stagecast.cli.status"])
@pytest.mark.parametrize("requested", [("status", DATASET), ("--help",)], ids=" ".join)
async def test_ctrl_c_while_modules_are_imported_ends_quietly(
    module: str, requested: tuple[str, ...]
) -> None:
    interrupted = f"""
import sys
class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "{module}":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from stagecast.__main__ import main
main()
"""
    ended = await finished([sys.executable, "-c", interrupted, *requested])
    assert ended == Ended(code=130, out="", err="")


async def test_client_commands_import_no_server_code() -> None:
    program = """
import sys
from click.testing import CliRunner
from stagecast.cli import main
for name in ("watch", "status", "batches", "history", "pause"):
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0
print(*{"stagecast.app", "stagecast.rpc", "sqlite_utils", "uvicorn"} & set(sys.modules))
"""
    assert (await finished([sys.executable, "-c", program])).out == "\n"
