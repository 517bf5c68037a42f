"""The pictures of the page can be taken again, and are small."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import screenshots

_MAX_BYTES = 1_000_000  # of all together, which every clone holds


@pytest.mark.browser
@pytest.mark.slow
async def test_screenshots_can_be_taken_again(tmp_path: Path) -> None:
    await screenshots.take(tmp_path)
    assert {file.stem for file in tmp_path.iterdir()} == set(screenshots.NAMES)


def test_committed_screenshots_are_those_of_the_program_and_small() -> None:
    files = list(screenshots.FOLDER.glob("page*.png"))
    assert {file.stem for file in files} == set(screenshots.NAMES)
    assert sum(file.stat().st_size for file in files) < _MAX_BYTES
