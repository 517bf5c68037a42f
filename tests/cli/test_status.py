"""`stagecast status` of a dataset and of a batch: JSON, pipes and terminals."""

from __future__ import annotations

import json

import pytest
from google.protobuf.json_format import Parse
from rich.cells import cell_len

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from tests.cli.batch import Batch
from tests.cli.command import on_terminal, stagecast
from tests.rpc.calls import step

WIDTH = 80


async def fields_of(server: App, *names: str) -> list[list[str]]:
    ended = await stagecast("status", *names, "--grpc", server.grpc_address)
    assert (ended.code, ended.err) == (0, "")
    return [line.split("\t") for line in ended.out.splitlines()]


async def screen_of(server: App, *names: str) -> list[str]:
    async with on_terminal("status", *names, "--grpc", server.grpc_address) as terminal:
        assert await terminal.end() == 0
    assert all(cell_len(line) <= WIDTH for line in terminal.lines())
    return terminal.lines()


async def create_many(client: Stubs, dataset_id: str, number: int) -> list[Batch]:
    batches = [Batch(client, dataset_id, f"b-{n:03}") for n in range(number)]
    for batch in batches:
        await batch.create("a")
    return batches


async def test_pipe_gets_the_batch_and_its_documents(server: App, batch: Batch) -> None:
    counted = r.Progress(completed_segments=3, total_segments=12)
    await batch.report(pb.DocumentReport(document_id="a", stage=r.STAGE_INDEXING, progress=counted))
    await batch.report(step("a", "pages\u3000ü", 3, 7))
    await batch.fail("b")
    first, a, b = await fields_of(server, *batch.name)
    assert first[:3] == [*batch.name, "running"]
    assert first[5] == "1 running, 1 failed; 3 segments"
    assert a[:5] == ["a", "running", "indexing", "1", "3/12"]
    assert a[7:] == ["", "pages\u3000ü 3/7"]
    assert b[:5] == ["b", "failed", "waiting", "1", ""]
    assert b[7:] == [r"PARSE_ERROR: Page 3\nis no text.", ""]
    screen = await screen_of(server, *batch.name)
    assert any("3/12, pages\u3000ü 3/7  " in line for line in screen)


async def test_unsealed_batch_says_that_documents_may_follow(
    server: App, client: Stubs, dataset_id: str
) -> None:
    batch = Batch(client, dataset_id)
    await batch.create(sealed=False)
    [fields] = await fields_of(server, *batch.name)
    assert fields[5] == "no documents; more documents may follow"
    assert "no documents; more documents may follow" in await screen_of(server, *batch.name)


async def test_pipe_gets_the_dataset_and_its_batches_newest_first(
    server: App, client: Stubs, dataset_id: str
) -> None:
    first, *_ = await create_many(client, dataset_id, 3)
    await first.succeed("a")
    await first.create("a", dataset_name="Händbuch")
    dataset, *batches = await fields_of(server, dataset_id)
    assert dataset[:3] == [dataset_id, "pending", "3 batches, 2 open"]
    assert dataset[4:] == ["2 pending, 1 succeeded", "Händbuch"]
    assert f"{dataset_id} (Händbuch)  pending" in await screen_of(server, dataset_id)
    assert [fields[1:3] for fields in batches] == [
        ["b-002", "pending"],
        ["b-001", "pending"],
        ["b-000", "succeeded"],
    ]


async def test_json_has_one_line_for_the_whole_and_one_per_part(server: App, batch: Batch) -> None:
    dataset_id, batch_id = batch.name
    variables = {"STAGECAST_GRPC": server.grpc_address}
    ended = await stagecast("status", dataset_id, "--json", **variables)
    dataset, listed = ended.out.splitlines()
    assert Parse(dataset, r.Dataset()).open_batches == 1
    assert Parse(listed, r.Batch()).batch_id == batch_id
    ended = await stagecast("status", dataset_id, batch_id, "--json", **variables)
    whole, *parts = ended.out.splitlines()
    assert json.loads(whole) == json.loads(listed)
    assert [Parse(part, r.Document()).document_id for part in parts] == ["a", "b"]


@pytest.mark.slow
async def test_pipe_gets_thousands_of_documents_and_a_terminal_one_screen(
    server: App, client: Stubs, dataset_id: str
) -> None:
    names = [f"corpus/document-{n:04}.txt" for n in range(2_500)]
    batch = Batch(client, dataset_id)
    await batch.create(*names)
    await batch.report(pb.DocumentReport(document_id=names[1_200], stage=r.STAGE_PARSING))
    for name in names[2_000:2_020]:
        await batch.fail(name)
    _, *documents = await fields_of(server, *batch.name)
    assert [fields[0] for fields in documents] == names
    screen = await screen_of(server, *batch.name)
    assert len(screen) < 24, "it scrolls"
    assert screen[0].startswith("batch-1  running")
    assert any("document-1200.txt  running    parsing" in line for line in screen)
    assert f"{names[2_000]}: PARSE_ERROR: Page 3 is no text." in screen
    rows = [line for line in screen if "  running " in line or "  failed " in line]
    hidden = len(names) - len(rows) + 1  # the first line is the batch's
    assert f"… and {hidden} more; use a pipe (| less) to list all" in screen


async def test_terminal_shows_open_batches_however_old(
    server: App, client: Stubs, dataset_id: str
) -> None:
    old, *others = await create_many(client, dataset_id, 40)
    for batch in others:
        await batch.succeed("a")
    screen = await screen_of(server, dataset_id)
    assert len(screen) < 24, "it scrolls"
    rows = [line.split()[:2] for line in screen if line.startswith("b-0")]
    assert rows[0] == ["b-039", "succeeded"]
    assert rows[-1] == [old.name[1], "pending"]
    assert screen[-1].startswith(f"… and {40 - len(rows)} more")


@pytest.mark.slow
async def test_terminal_shows_the_end_of_long_names(
    server: App, client: Stubs, dataset_id: str
) -> None:
    paths = [f"https://files.example.org/{'reports/' * 20}q{n}/final.pdf" for n in range(3)]
    batch = Batch(client, dataset_id, "x" * 128)
    await batch.create(*paths, "長い名前" * 50)
    screen = await screen_of(server, *batch.name)
    for n in range(3):
        assert any(f"q{n}/final.pdf  pending" in line for line in screen)
    assert any("長い名前 " in line for line in screen)
    assert any("…xxx" in line for line in await screen_of(server, dataset_id))
    _, *documents = await fields_of(server, *batch.name)
    assert [fields[0] for fields in documents[:3]] == paths


@pytest.mark.slow
async def test_control_characters_in_texts_are_escaped(server: App, batch: Batch) -> None:
    error = r.DocumentError(reason="PARSE_ERROR", message="one\ttwo\r\n\x1b[2Jthree\x07")
    await batch.report(pb.DocumentReport(document_id="a", error=error))
    _, a, _ = await fields_of(server, *batch.name)
    assert a[7] == r"PARSE_ERROR: one\ttwo\r\n\x1b[2Jthree\x07"
    screen = await screen_of(server, *batch.name)
    assert r"a: PARSE_ERROR: one two \x1b[2Jthree\x07" in screen


@pytest.mark.slow
async def test_status_reports_an_unknown_dataset_or_batch(server: App, batch: Batch) -> None:
    missing = "00000000-0000-4000-8000-000000000000"
    for names, why in [
        ((missing,), f"no dataset '{missing}' (DATASET_NOT_FOUND)"),
        ((batch.name[0], "x"), f"no batch 'x' in dataset '{batch.name[0]}' (BATCH_NOT_FOUND)"),
    ]:
        ended = await stagecast("status", *names, "--grpc", server.grpc_address)
        assert (ended.code, ended.out, ended.err) == (2, "", f"Error: {why}\n")
