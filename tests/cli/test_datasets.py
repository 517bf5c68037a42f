"""Commands take a dataset by its UUID or by its name."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from stagecast.app import App
from stagecast.cli import main
from stagecast.client import Stubs
from stagecast.client.datasets import dataset_id
from stagecast.v1 import report_service_pb2 as pb
from tests.cli.command import stagecast

HANDBOOK = dataset_id("handbook")
COMMANDS = ("status", "history", "watch", "pause", "resume", "stop", "retry")


@pytest.fixture
async def handbook(client: Stubs) -> str:
    """The name of a dataset with an ended batch `first`."""
    request = pb.CreateBatchRequest(dataset_id=HANDBOOK, batch_id="first")
    await client.reports.CreateBatch(request)
    return "handbook"


@pytest.mark.parametrize("command", COMMANDS)
async def test_command_takes_a_name_and_prints_the_same(
    server: App, handbook: str, command: str
) -> None:
    for dataset in (handbook, HANDBOOK):
        ended = await stagecast(command, dataset, "first", "--grpc", server.grpc_address)
        assert (ended.code, ended.err) == (0, "")
        assert "first" in ended.out or command == "history"


async def test_batches_of_a_named_dataset_are_listed(server: App, handbook: str) -> None:
    ended = await stagecast("batches", "--dataset", handbook, "--grpc", server.grpc_address)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{HANDBOOK}\tfirst\t")
    ended = await stagecast("batches", "--dataset", "other", "--grpc", server.grpc_address)
    expected = f"no dataset 'other' ({dataset_id('other')}) (DATASET_NOT_FOUND)"
    assert ended.err == f"Error: {expected}\n"


@pytest.mark.parametrize("command", COMMANDS)
async def test_error_has_the_name_and_the_id(server: App, handbook: str, command: str) -> None:
    ended = await stagecast(command, handbook, "second", "--grpc", server.grpc_address)
    expected = f"no batch 'second' in dataset 'handbook' ({HANDBOOK}) (BATCH_NOT_FOUND)"
    assert (ended.code, ended.err) == (2, f"Error: {expected}\n")


def _with_a_dataset() -> dict[str, tuple[click.Command, list[str]]]:
    """Return the commands that take a dataset, and how each is called with one."""
    context = click.Context(main)
    commands = {name: main.get_command(context, name) for name in main.list_commands(context)}
    group = commands["keys"]
    assert isinstance(group, click.Group)
    commands["keys create"] = group.get_command(context, "create")
    return {
        name: (command, ["--dataset"] if isinstance(parameter, click.Option) else [])
        for name, command in commands.items()
        for parameter in (command.params if command else ())
        if command and parameter.name in ("dataset", "datasets")
    }


def test_help_of_every_command_says_that_a_name_is_accepted() -> None:
    commands = _with_a_dataset()
    assert commands.keys() == {*COMMANDS, "batches", "keys create"}
    for name in commands:
        text = CliRunner().invoke(main, [*name.split(), "--help"]).output
        assert "a UUID or a name" in " ".join(text.split()), name


@pytest.mark.parametrize("mistyped", ["", f"{HANDBOOK[:-1]}", f"{HANDBOOK[:-1]}g", f"{HANDBOOK}\n"])
def test_mistyped_uuid_is_refused_by_every_command(mistyped: str) -> None:
    for name, (_, before) in _with_a_dataset().items():
        batch = [] if before else ["first"]
        ended = CliRunner().invoke(main, [*name.split(), *before, mistyped, *batch])
        assert ended.exit_code == 2, name
        refusal = "mistyped UUID" if mistyped else "must not be empty"
        assert refusal in ended.output, name


async def test_key_may_be_for_a_named_dataset(tmp_path: Path) -> None:
    made = await stagecast("keys", "create", "--db", tmp_path / "k.db", "--dataset", "handbook")
    assert f"; datasets: {HANDBOOK}; " in made.err
