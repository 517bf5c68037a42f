"""Pages of a list that goes on in a file that was restored from a copy."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlite_utils.utils import sqlite3

from stagecast.config import Config
from stagecast.model import PageToken
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.rpc.calls import BATCH, Calls, counters, refused, stage

Page = Callable[..., Awaitable[Any]]
LISTS = ["documents", "transitions", "transitions of a document"]


def copy(source: Path, target: Path) -> None:
    """Write a file into another one, which may be open, as `sqlite3 FILE .restore` does."""
    with (
        contextlib.closing(sqlite3.connect(source)) as reading,
        contextlib.closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing)


@pytest.fixture
async def calls(calls: Calls) -> Calls:
    await calls.create("a", "b", "c")
    await calls.report(stage("a", r.STAGE_PARSING), stage("b", r.STAGE_PARSING))
    return calls


def page_of(kind: str, calls: Calls) -> Page:
    async def transitions(**fields: Any) -> ss.ListTransitionsResponse:
        return await calls.client.status.ListTransitions(
            ss.ListTransitionsRequest(
                dataset_id=calls.dataset_id,
                batch_id=BATCH,
                document_id="a" if kind.endswith("document") else "",
                **fields,
            )
        )

    return calls.page if kind == "documents" else transitions


async def move_on(calls: Calls, reached: r.Stage.ValueType) -> None:
    await calls.report(stage("a", reached), stage("b", reached))
    await calls.report(stage("a", r.STAGE_INDEXING))


def size_to_the_last_but_one(kind: str) -> int:
    """Return the size of a first page that has transitions of `move_on`."""
    return {"documents": 2, "transitions": 9, "transitions of a document": 3}[kind]


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("moved_on", [False, True], ids=["behind", "past"])
async def test_next_page_of_another_history_is_told(
    calls: Calls, config: Config, tmp_path: Path, kind: str, moved_on: bool
) -> None:
    saved, page = tmp_path / "saved.db", page_of(kind, calls)
    copy(config.db, saved)
    await move_on(calls, r.STAGE_CLEANING)
    first = await page(page_size=size_to_the_last_but_one(kind))
    assert first.next_page_token
    copy(saved, config.db)
    if moved_on:
        await move_on(calls, r.STAGE_SPLITTING)
        await calls.report(stage("c", r.STAGE_PARSING))
    refusal = await refused(page(page_size=1, page_token=first.next_page_token))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.OUT_OF_RANGE, "HISTORY_CHANGED")
    assert "page token does not match the history" in refusal.message
    await page(page_size=1)


@pytest.mark.parametrize("kind", LISTS)
async def test_next_page_goes_on_if_the_copy_has_all_of_the_pages_before(
    calls: Calls, config: Config, tmp_path: Path, kind: str
) -> None:
    page = page_of(kind, calls)
    first = await page(page_size=1)
    before = await page(page_size=1, page_token=first.next_page_token)
    copy(config.db, tmp_path / "saved.db")
    await move_on(calls, r.STAGE_CLEANING)
    copy(tmp_path / "saved.db", config.db)
    after = await page(page_size=1, page_token=first.next_page_token)
    if kind == "documents":
        assert after == before
    else:
        assert after.transitions == before.transitions


async def test_page_with_counters_of_another_history_is_told(
    calls: Calls, config: Config, tmp_path: Path
) -> None:
    """Counters leave no transition; this process counts on from those of the copy."""
    await calls.report(counters("a", 1, 9))
    copy(config.db, tmp_path / "saved.db")
    await calls.report(counters("b", 2, 9), counters("c", 3, 9))
    first = await calls.page(page_size=1)
    copy(tmp_path / "saved.db", config.db)
    for completed in (4, 5, 6):
        await calls.report(counters("b", completed, 9))
    refusal = await refused(calls.page(page_size=1, page_token=first.next_page_token))
    assert refusal.reason == "HISTORY_CHANGED"


async def test_page_token_of_an_earlier_release_goes_on(calls: Calls, config: Config) -> None:
    """It names no transition, so its history cannot be checked."""
    await move_on(calls, r.STAGE_CLEANING)
    with contextlib.closing(sqlite3.connect(config.db)) as connection:
        [(secret, key)] = connection.execute("SELECT page_secret, batches.id FROM secrets, batches")
    token = PageToken(after="4").encode(secret, "transitions", key, "")
    page = await page_of("transitions", calls)(page_size=2, page_token=token)
    assert [transition.revision for transition in page.transitions] == [5, 6]
