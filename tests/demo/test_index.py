"""The index finds the chunks that were added to it, with any words."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlite_utils import Database

from stagecast.demo.index import Hit, Index
from stagecast.demo.stages import IngestionError


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path / "index.db") as index:
        yield index


def test_search_finds_the_best_chunk(index: Index) -> None:
    index.add("a", 1, ["The heron stands.", "The otter runs, the otter swims."])
    index.add("b", 1, ["An otter and a heron and many others are in this longer text."])
    assert index.search("otter") == Hit(
        document_id="a", number=2, text="The otter runs, the otter swims."
    )
    both = index.search("heron OTTER")
    assert both is not None
    assert both.document_id == "b"


def test_search_ignores_accents(index: Index) -> None:
    index.add("tart", 1, ["200 g crème fraîche"])
    assert index.search("creme fraiche") is not None


@pytest.mark.parametrize("words", ['"', "NOT", "a AND", "*", "!!!", "x:y", "('", " "])
def test_search_reads_no_syntax_in_words(index: Index, words: str) -> None:
    index.add("a", 1, ["text"])
    assert index.search(words) is None


def test_chunks_added_twice_are_stored_once(index: Index) -> None:
    index.add("a", 1, ["first otter", "second"])
    index.add("a", 1, ["first heron", "second"])
    assert index.search("otter") is None
    assert index.search("heron") is not None
    with Database(index.path) as db:
        assert db.table("chunks").count == 2


def test_threads_share_an_index(index: Index) -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda number: index.add(f"{number}", 1, ["otter", "heron"]), range(200)):
            pass
    with Database(index.path) as db:
        assert db.table("chunks").count == 400


def test_a_file_that_cannot_be_used_is_an_ingestion_error(tmp_path: Path) -> None:
    with (
        pytest.raises(IngestionError, match=r"cannot use .*index.db"),
        Index(tmp_path / "missing" / "index.db"),
    ):
        pass
