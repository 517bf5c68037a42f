"""The index finds the chunks that were added to it, with any words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlite_utils import Database

from stagecast.demo.index import Hit, Index
from stagecast.demo.stages import IngestionError


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[Index]:
    async with Index(tmp_path / "index.db") as index:
        yield index


async def test_search_finds_the_best_chunk(index: Index) -> None:
    await index.add("a", 1, ["The heron stands.", "The otter runs, the otter swims."])
    await index.add("b", 1, ["An otter and a heron and many others are in this longer text."])
    assert await index.search("otter") == Hit(
        document_id="a", number=2, text="The otter runs, the otter swims."
    )
    both = await index.search("heron OTTER")
    assert both is not None
    assert both.document_id == "b"


async def test_search_ignores_accents(index: Index) -> None:
    await index.add("tart", 1, ["200 g crème fraîche"])
    assert await index.search("creme fraiche") is not None


@pytest.mark.parametrize("words", ['"', "NOT", "a AND", "*", "!!!", "x:y", "('", " "])
async def test_search_reads_no_syntax_in_words(index: Index, words: str) -> None:
    await index.add("a", 1, ["text"])
    assert await index.search(words) is None


async def test_chunks_added_twice_are_stored_once(index: Index) -> None:
    await index.add("a", 1, ["first otter", "second"])
    await index.add("a", 1, ["first heron", "second"])
    assert await index.search("otter") is None
    assert await index.search("heron") is not None
    with Database(index.path) as db:
        assert db.table("chunks").count == 2


async def test_keyword_is_what_the_texts_are_about(index: Index) -> None:
    assert await index.find_keyword() is None
    everywhere = "There would always be something about which there is nothing. "
    await index.add("a", 1, [everywhere + "Otter, otter and otters.", everywhere, everywhere])
    await index.add("b", 1, [everywhere + "Herons and herons with herons.", everywhere])
    assert await index.find_keyword() == "herons"


async def test_a_file_that_cannot_be_used_is_an_ingestion_error(tmp_path: Path) -> None:
    with pytest.raises(IngestionError, match=r"cannot use .*index.db"):
        async with Index(tmp_path / "missing" / "index.db"):
            pass
