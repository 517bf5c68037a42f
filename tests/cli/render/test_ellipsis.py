"""Texts are shortened to their column, and keep their end, where they differ."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.console import Console

from stagecast.cli.render.ellipsis import Shortened, ellipsize

PATH = "https://files.example.org/reports/2026/q1/final-version.pdf"


@pytest.mark.parametrize("text", [PATH, "長い名前" * 50, "e\u0301" * 90, "x", ""])
def test_text_is_shortened_to_its_width(text: str) -> None:
    for cells in range(40):
        assert cell_len(ellipsize(text, cells)) <= cells


def test_text_that_fits_is_unchanged() -> None:
    assert ellipsize(PATH, len(PATH)) == PATH


def test_end_is_cut_last() -> None:
    assert ellipsize(PATH, 40) == "https://files…/2026/q1/final-version.pdf"
    assert ellipsize(PATH, 21) == "…q1/final-version.pdf"
    assert ellipsize(PATH, 5) == "….pdf"


def test_text_beside_is_cut_first() -> None:
    shown = Shortened(PATH, beside="Final version")
    assert rendered(shown, 80).rstrip() == f"{PATH}  Final version"
    assert rendered(shown, len(PATH) + 4).rstrip() == PATH
    assert rendered(shown, 21).rstrip() == "…q1/final-version.pdf"


def rendered(text: Shortened, cells: int) -> str:
    console = Console(width=cells)
    with console.capture() as capture:
        console.print(text, end="")
    return capture.get()
