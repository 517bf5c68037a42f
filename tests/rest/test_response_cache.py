"""Answers are kept while they are current, and no longer."""

from __future__ import annotations

import uuid
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from stagecast.model import ALL, Stage
from stagecast.rest import cognee, dify, response_cache
from stagecast.rest.content import Body, Content
from stagecast.rest.response_cache import ResponseCache
from stagecast.service.controls import Controls
from stagecast.store import ReadTransaction
from stagecast.store.sqlite import SqliteStore
from tests.clock import Clock
from tests.rest.apps import open_app
from tests.rest.conftest import Ingestion
from tests.store.counting import CountingStore
from tests.store.test_integrity import opened
from tests.store.test_sqlite import plain


@dataclass
class Source:
    """An answer that is made of one number; `rereads` tells how often it was read again."""

    value: int = 0
    small: bool = True
    rereads: int = 0
    ids: int = 1
    heads: list[int] = field(default_factory=list)

    def head(self, _tx: ReadTransaction) -> Hashable:
        self.heads.append(self.value)
        return self.value

    def render_small(self, _tx: ReadTransaction) -> Content | None:
        self.rereads += 1
        return content(f"{self.value}") if self.small else None


def content(text: str) -> Content:
    return Body().end(text.encode())


def text_of(content: Content | None) -> str | None:
    return None if content is None else b"".join(content.chunks).decode()


@pytest.fixture
def cache(store: SqliteStore) -> ResponseCache:
    return ResponseCache(store)


def test_answer_is_not_compared_while_the_store_has_the_same_version(cache: ResponseCache) -> None:
    source = Source()
    cache.keep("k", source, 1, 0, content("0"))
    source.value = 1
    assert [text_of(cache.find("k", 1)) for _ in range(3)] == ["0"] * 3
    assert source.heads == []
    assert cache.find("other", 1) is None


def test_answer_is_compared_once_after_a_commit(cache: ResponseCache) -> None:
    source = Source()
    cache.keep("k", source, 1, 0, content("0"))
    assert [text_of(cache.find("k", 2)) for _ in range(3)] == ["0"] * 3
    assert source.heads == [0]
    assert source.rereads == 0


def test_changed_answer_is_read_again_in_place_if_it_is_small(cache: ResponseCache) -> None:
    source = Source()
    cache.keep("k", source, 1, 0, content("0"))
    source.value = 1
    assert [text_of(cache.find("k", 2)) for _ in range(3)] == ["1"] * 3
    assert source.rereads == 1
    source.value = 2
    source.small = False
    assert cache.find("k", 3) is None
    cache.keep("k", source, 3, 2, content("2" * 5_000))
    source.value = 3
    assert cache.find("k", 4) is None
    assert source.rereads == 2, "the body was too large to try"


def test_answer_read_before_a_commit_is_compared_although_it_is_kept_after_it(
    cache: ResponseCache,
) -> None:
    source = Source(value=1)
    cache.keep("k", source, 1, 0, content("0"))
    assert text_of(cache.find("k", 2)) == "1"


def test_cache_is_bounded_and_drops_the_least_recently_used(
    cache: ResponseCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 1 + response_cache._PER_ENTRY + response_cache._PER_ID
    monkeypatch.setattr(response_cache, "_BYTES", 5 * size)
    for number in range(5):
        cache.keep(number, Source(), 1, 0, content("0"))
    cache.keep(4, Source(), 1, 0, content("0"))  # replaces itself
    assert cache.find(0, 1)
    for number in range(5, 8):
        cache.keep(number, Source(), 1, 0, content("0"))
    assert [number for number in range(8) if cache.find(number, 1)] == [0, 4, 5, 6, 7]


@pytest.mark.parametrize(("ids", "size"), [(1, 100_000), (1_000, 1)], ids=["body", "ids"])
def test_body_and_ids_count_against_the_limit(
    cache: ResponseCache, monkeypatch: pytest.MonkeyPatch, ids: int, size: int
) -> None:
    monkeypatch.setattr(response_cache, "_BYTES", 50_000)
    cache.keep("small", Source(), 1, 0, content("0"))
    cache.keep("large", Source(ids=ids), 1, 0, content("x" * size))
    assert cache.find("small", 1) is None, "it was dropped"


def test_grown_answer_counts_with_its_new_size(
    cache: ResponseCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source()
    cache.keep("k", source, 1, 0, content("0"))
    source.value = 10**1_000
    assert cache.find("k", 2)
    assert cache._bytes == response_cache._PER_ENTRY + response_cache._PER_ID + 1_001


def test_grown_answer_makes_others_leave(
    cache: ResponseCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_cache, "_BYTES", 7_000)
    source = Source()
    cache.keep("k", source, 1, 0, content("0"))
    cache.keep("other", Source(), 1, 0, content("0"))
    source.value = 10**4_000
    assert cache.find("k", 2)
    assert cache._bytes <= 7_000
    assert cache.find("other", 1) is None, "it was dropped"


def test_number_of_small_answers_is_bounded(cache: ResponseCache) -> None:
    """A cache-busting parameter makes every request different."""
    for number in range(20_000):
        cache.keep(f"_={number}", Source(), 1, 0, content("0"))
    assert sum(cache.find(f"_={number}", 1) is not None for number in range(20_000)) < 10_000


def test_large_answer_is_not_kept(cache: ResponseCache) -> None:
    cache.keep("k", Source(), 1, 0, content("0"))
    cache.keep("k", Source(), 1, 0, content("x" * (response_cache.LARGE + 1)))
    assert cache.find("k", 1) is None


# The two paths.


async def test_poll_after_an_acknowledged_commit_of_another_process_shows_it(
    http: httpx.AsyncClient, ingestion: Ingestion, db: Path, clock: Clock
) -> None:
    await ingestion.submit("a")
    async with opened(db, clock) as other:
        elsewhere = Ingestion(other, ingestion.dataset_id)
        named = f"{cognee.PATH}?dataset={ingestion.dataset_id}"
        for stage, dify_word, cognee_word in (
            (Stage.PARSING, "parsing", "STARTED"),
            (Stage.CLEANING, "cleaning", "STARTED"),
            (Stage.COMPLETED, "completed", "COMPLETED"),
        ):
            await elsewhere.report("a", stage)
            [document] = (await http.get(ingestion.path)).json()["data"]
            assert document["indexing_status"] == dify_word
            for path in (named, cognee.PATH):
                states = (await http.get(path)).json()
                assert states == {ingestion.dataset_id: f"DATASET_PROCESSING_{cognee_word}"}
        await Controls(other).delete_dataset(ingestion.dataset_id, visible=ALL)
        assert (await http.get(ingestion.path)).status_code == 404
        assert (await http.get(named)).json() == (await http.get(cognee.PATH)).json() == {}


async def test_commit_about_something_else_costs_no_read_of_the_answer(
    db: Path, clock: Clock, dataset_id: str
) -> None:
    store = CountingStore(db, clock=clock, on_commit=lambda _: None, on_foreign_commit=lambda: None)
    ours, other = Ingestion(store, dataset_id), Ingestion(store, str(uuid.uuid4()))
    await ours.submit("a")
    await other.submit("a")
    transport = httpx.ASGITransport(open_app(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://stagecast") as http:
        paths = ours.path, f"{cognee.PATH}?dataset={dataset_id}"
        bodies = [(await http.get(path)).content for path in paths]
        for stage in (Stage.PARSING, Stage.CLEANING):
            await other.report("a", stage)
            before = store.reads
            assert [(await http.get(path)).content for path in paths] == bodies
            assert store.reads - before == 1 + len(paths), "keys and heads only"
            assert [(await http.get(path)).content for path in paths] == bodies
            assert store.reads - before == 1 + len(paths)
    await store.close()


async def test_restored_copy_with_the_same_revision_is_noticed(
    http: httpx.AsyncClient, ingestion: Ingestion, db: Path, tmp_path: Path, clock: Clock
) -> None:
    await ingestion.submit("a")
    copy = tmp_path / "copy.db"
    with plain(db) as source, plain(copy) as target:
        source.backup(target)
    named = f"{cognee.PATH}?dataset={ingestion.dataset_id}"
    clock.advance(1)
    await ingestion.report("a", Stage.COMPLETED)
    for path in (ingestion.path, named, cognee.PATH):
        assert b"ompleted" in (await http.get(path)).content.lower()
    clock.advance(1)
    async with opened(copy, clock) as other:  # another history, as long as ours
        await Ingestion(other, ingestion.dataset_id).report("a", Stage.PARSING)
    with plain(copy) as source, plain(db) as target:
        source.backup(target)
    [document] = (await http.get(ingestion.path)).json()["data"]
    assert document["indexing_status"] == "parsing"
    for path in (named, cognee.PATH):
        states = (await http.get(path)).json()
        assert states == {ingestion.dataset_id: "DATASET_PROCESSING_STARTED"}


async def test_batch_that_has_grown_large_is_not_read_on_the_event_loop(
    store: SqliteStore,
    http: httpx.AsyncClient,
    ingestion: Ingestion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await ingestion.submit("a", more=True)
    assert len((await http.get(ingestion.path)).json()["data"]) == 1
    await ingestion.add(*(f"doc-{number}" for number in range(dify._FEW)))
    rendered: list[int] = []
    render_page = dify._Documents.render_page

    def count(*args: object, limit: int = 0, **_: object) -> object:
        page = render_page(*args, **({"limit": limit} if limit else {}))  # type: ignore[arg-type]  # as given
        rendered.append(limit)
        return page

    monkeypatch.setattr(dify._Documents, "render_page", count)
    assert len((await http.get(ingestion.path)).json()["data"]) == dify._FEW + 1
    assert rendered == [dify._FEW, 0]
    assert len((await http.get(ingestion.path)).json()["data"]) == dify._FEW + 1
    assert rendered == [dify._FEW, 0], "it is kept"
