"""`stagecast batches`: the batches of all datasets, or some of them."""

from __future__ import annotations

import uuid

import pytest
from click.testing import CliRunner
from google.protobuf.json_format import Parse
from rich.cells import cell_len

from stagecast.app import App
from stagecast.cli import main
from stagecast.client import Stubs
from stagecast.v1 import resources_pb2 as r
from tests.cli.batch import Batch
from tests.cli.command import on_terminal, stagecast


@pytest.fixture
async def three(client: Stubs, dataset_id: str) -> list[Batch]:
    """Three batches, newest first; the second has ended."""
    other = str(uuid.uuid4())
    oldest, ended, newest = (
        Batch(client, dataset_id, "oldest"),
        Batch(client, dataset_id, "ended"),
        Batch(client, other, "newest"),
    )
    for batch in (oldest, ended, newest):
        await batch.create("a")
    await ended.fail("a")
    return [newest, ended, oldest]


async def listed(server: App, *options: str) -> list[str]:
    ended = await stagecast("batches", *options, "--grpc", server.grpc_address)
    assert (ended.code, ended.err) == (0, "")
    return ended.out.splitlines()


async def test_pipe_gets_one_line_per_batch(server: App, three: list[Batch]) -> None:
    rows = [line.split("\t") for line in await listed(server)]
    assert [(row[0], row[1]) for row in rows] == [batch.name for batch in three]
    assert [row[2] for row in rows] == ["pending", "failed", "pending"]
    assert [row[5] for row in rows] == ["1 pending", "1 failed", "1 pending"]


@pytest.mark.slow
async def test_options_filter_batches(server: App, three: list[Batch]) -> None:
    newest, ended, oldest = three
    for options, expected in [
        (("--open",), [newest, oldest]),
        (("--dataset", oldest.name[0]), [ended, oldest]),
        (("--limit", "2"), [newest, ended]),
        (("--open", "--dataset", oldest.name[0], "--limit", "1"), [oldest]),
    ]:
        rows = [line.split("\t") for line in await listed(server, *options)]
        assert [(row[0], row[1]) for row in rows] == [batch.name for batch in expected], options


@pytest.mark.slow
async def test_json_has_one_line_per_batch(server: App, three: list[Batch]) -> None:
    actual = [Parse(line, r.Batch()) for line in await listed(server, "--json", "--open")]
    assert [(batch.dataset_id, batch.batch_id) for batch in actual] == [
        three[0].name,
        three[2].name,
    ]


async def test_terminal_gets_a_table_with_whole_ids(server: App, three: list[Batch]) -> None:
    await three[0].create("a", dataset_name="Händbuch")
    async with on_terminal("batches", "--grpc", server.grpc_address) as terminal:
        assert await terminal.end() == 0
    head, other, newest, dataset, ended, oldest = (line.rstrip() for line in terminal.lines())
    assert head.split() == ["batch", "state", "documents", "created", "time"]
    assert (other, dataset) == (f"{three[0].name[0]} (Händbuch)", three[1].name[0])
    assert newest.split()[:3] == ["newest", "pending", "0/1"]
    assert ended.split()[:5] == ["ended", "failed", "1/1,", "1", "failed"]
    assert oldest.split()[:3] == ["oldest", "pending", "0/1"]


async def test_terminal_says_how_to_see_more(server: App, client: Stubs, dataset_id: str) -> None:
    for n in range(21):
        await Batch(client, dataset_id, f"{'long-' * 20}{n:02}").create()
    async with on_terminal("batches", "--grpc", server.grpc_address) as terminal:
        assert await terminal.end() == 0
    rows = [line for line in terminal.lines() if "succeeded" in line]
    assert len(rows) == 20
    assert rows[0].split()[0].endswith("-long-20")
    assert all(cell_len(line) <= 80 for line in terminal.lines())
    assert terminal.lines()[-1] == "… and older batches; --limit 100 shows more"


@pytest.mark.slow
async def test_terminal_says_that_there_are_no_batches(server: App) -> None:
    for options, printed in [((), "no batches"), (("--open",), "no open batches")]:
        async with on_terminal("batches", *options, "--grpc", server.grpc_address) as terminal:
            assert await terminal.end() == 0
        assert terminal.lines() == [printed]
    assert await listed(server) == []


@pytest.mark.parametrize("option", [("--limit", "0"), ("--limit", "x"), ("--dataset", "")])
def test_batches_refuses_invalid_options(option: tuple[str, str]) -> None:
    assert CliRunner().invoke(main, ["batches", *option]).exit_code == 2


@pytest.mark.parametrize("size", ["", "0", "00"])
async def test_terminal_of_unknown_size_gets_the_default_size(
    server: App, three: list[Batch], size: str
) -> None:
    requested = ("batches", "--grpc", server.grpc_address)
    async with on_terminal(*requested, COLUMNS=size, LINES=size) as terminal:
        assert await terminal.end() == 0
    assert all(any(batch.name[1] in line for line in terminal.lines()) for batch in three)
