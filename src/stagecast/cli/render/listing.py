"""Lists of batches, for `status` and `batches`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TypeAlias

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stagecast.cli.render import formatting
from stagecast.cli.render.ellipsis import Shortened
from stagecast.cli.render.table import state_text
from stagecast.v1 import resources_pb2 as r

_Cells: TypeAlias = tuple[Text, ...]

_HEADS = ("state", "documents", "created", "time")
_READABLE = 20  # cells of an id that the server generated, so that it can be copied
_GAP = 2


def batch_fields(batch: r.Batch, now_s: float) -> tuple[str, ...]:
    """Return a batch for a pipe: dataset, id, state, creation time, duration, contents."""
    return (
        batch.dataset_id,
        batch.batch_id,
        formatting.batch_word(batch),
        formatting.timestamp(batch.create_time),
        formatting.batch_elapsed(batch, now_s),
        formatting.contents_line(batch),
    )


def batches_table(
    batches: Sequence[r.Batch],
    now_s: float,
    *,
    width: int,
    names: Mapping[str, str] | None = None,
) -> RenderableType:
    """Return batches as a table.

    Ids are copied from it, so that they come before the last columns where space is short.

    Args:
        batches: the batches, in this order.
        now_s: the time now, in seconds since the epoch.
        width: columns of the terminal.
        names: display names by the ids of datasets; prints each dataset above a run of its batches.
    """
    cells = [_cells(batch, now_s) for batch in batches]
    widths = _widths(batches, cells, width)
    rows = list(zip(batches, cells, strict=True))
    if names is None:
        return _rows(rows, widths, head=True)
    parts: list[RenderableType] = [_rows([], widths, head=True)]
    for dataset_id, together in groupby(rows, key=lambda row: row[0].dataset_id):
        dataset = formatting.dataset_name(dataset_id, names.get(dataset_id, ""))
        parts += [Text(dataset, "bold"), _rows(together, widths, head=False)]
    return Group(*parts)


def _widths(batches: Sequence[r.Batch], cells: Sequence[_Cells], width: int) -> list[int]:
    """Return the widths of the columns that fit; the first is that of the ids."""
    others = [
        max(cell_len(head), *(row[column].cell_len for row in cells))
        for column, head in enumerate(_HEADS)
    ]
    longest = max(cell_len("batch"), *(len(batch.batch_id) for batch in batches))
    while others and _room(width, others) < min(longest, _READABLE):
        others.pop()
    return [max(1, min(longest, _room(width, others))), *others]


def _room(width: int, others: Sequence[int]) -> int:
    return width - sum(others) - _GAP * len(others)


def _rows(rows: Iterable[tuple[r.Batch, _Cells]], widths: Sequence[int], *, head: bool) -> Table:
    table = Table(
        box=None,
        padding=(0, _GAP, 0, 0),
        pad_edge=False,
        header_style="dim",
        show_header=head,
    )
    for name, width in zip(("batch", *_HEADS), widths, strict=False):
        table.add_column(name, no_wrap=True, width=width)
    for batch, cells in rows:
        table.add_row(Shortened(batch.batch_id), *cells[: len(widths) - 1])
    return table


def _cells(batch: r.Batch, now_s: float) -> _Cells:
    return (
        state_text(formatting.batch_word(batch)),
        _documents(batch),
        Text(formatting.moment(batch.create_time, now_s)),
        Text(formatting.batch_elapsed(batch, now_s)),
    )


def _documents(batch: r.Batch) -> Text:
    """Return the numbers of ended, all and failed documents; `+` if more may follow."""
    counts = batch.counts
    text = Text(f"{formatting.ended(counts)}/{counts.total}" + ("" if batch.sealed else "+"))
    if counts.failed:
        text.append(f", {counts.failed} failed", "red")
    return text
