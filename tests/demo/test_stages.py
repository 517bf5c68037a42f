"""The stages process documents of any size, and report errors in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stagecast.demo import stages
from stagecast.demo.stages import IngestionError, scratch


@pytest.mark.parametrize("lines", [1, 40_000])
def test_stages_pass_small_and_large_texts_on(tmp_path: Path, lines: int) -> None:
    """Small texts stay in memory, large ones do not; the results are the same."""
    path = tmp_path / "text"
    words = [f"gr\u00fcn{number}" for number in range(lines)]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(words).encode())
    with scratch() as parsed, scratch() as cleaned, scratch() as chunks:
        stages.parse(path, parsed)
        stages.clean(parsed, cleaned)
        total = stages.split(cleaned, chunks)
        actual = stages.next_chunks(chunks, total - 1) + stages.next_chunks(chunks, 2)
        assert stages.next_chunks(chunks, 1) == []
    assert len(actual) == total
    assert list(dict.fromkeys(word for chunk in actual for word in chunk.split())) == words


def test_file_of_zeros_has_no_text(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(20_000_000)
    with scratch() as parsed, scratch() as cleaned:
        stages.parse(path, parsed)
        with pytest.raises(IngestionError) as failed:
            stages.clean(parsed, cleaned)
    assert failed.value.reason == "NO_TEXT"


def test_a_stage_ends_when_its_files_are_closed(tmp_path: Path) -> None:
    """A document that is dropped or interrupted frees its thread."""
    path = tmp_path / "text"
    path.write_text("A text.")
    parsed = scratch()
    parsed.close()
    with pytest.raises(ValueError, match="closed file"):
        stages.parse(path, parsed)
