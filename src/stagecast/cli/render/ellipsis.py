"""Texts shortened to a width in their middle, as paths differ at their end."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.style import Style
from rich.text import Text

_GAP = 2  # cells between a text and what is beside it
_MIN_WIDTH = 8  # cells
_END = 24  # cells of the end that come before any of the beginning


class Shortened:
    """A line of text, shortened to the width of its column.

    Args:
        text: the text.
        style: its style.
        beside: a dim text after it, if there is room.
    """

    def __init__(self, text: str, style: str | Style = "", *, beside: str = "") -> None:
        self._text = text
        self._style = style
        self._beside = beside

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = Text(ellipsize(self._text, options.max_width), self._style, no_wrap=True)
        room = options.max_width - line.cell_len - _GAP
        if self._beside and room >= min(_MIN_WIDTH, cell_len(self._beside)):
            line.append(" " * _GAP).append(ellipsize(self._beside, room), "dim")
        yield line

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        width = cell_len(self._text)
        if self._beside:
            width += _GAP + cell_len(self._beside)
        return Measurement(min(cell_len(self._text), _MIN_WIDTH), width).with_maximum(
            options.max_width
        )


def ellipsize(text: str, cells: int) -> str:
    """Return a text in at most `cells` cells: its end, and up to half as much of its start."""
    if cell_len(text) <= cells:
        return text
    if cells < 1:
        return ""
    room = cells - 1
    end = _ending(text, max(room - room // 3, min(room, _END)))
    return _beginning(text, room - cell_len(end)) + "…" + end


def _beginning(text: str, cells: int) -> str:
    for length, character in enumerate(text):
        cells -= cell_len(character)
        if cells < 0:
            return text[:length]
    return text


def _ending(text: str, cells: int) -> str:
    return _beginning(text[::-1], cells)[::-1]
