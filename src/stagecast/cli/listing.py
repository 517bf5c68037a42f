"""Batches one below the other, as `status` and `batches` list them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stagecast.cli import wording
from stagecast.cli.shorten import Shortened
from stagecast.cli.table import state_text
from stagecast.v1 import resources_pb2 as r

_HEADS = ("state", "documents", "since", "time")
_READABLE = 20  # cells of an id that the server has made: it has to be copied
_GAP = 2


def batch_fields(batch: r.Batch, now_s: float) -> tuple[str, ...]:
    """Return a batch for a pipe: dataset, id, state, since when, how long, what is in it."""
    return (
        batch.dataset_id,
        batch.batch_id,
        wording.batch_word(batch),
        wording.timestamp(batch.create_time),
        wording.batch_time_taken(batch, now_s),
        wording.contents_line(batch),
    )


def batches_table(
    batches: Sequence[r.Batch], now_s: float, *, width: int, by_dataset: bool = False
) -> RenderableType:
    """Return batches as a table for a terminal that is so wide.

    The ids are what is copied from it: the last column gives way to them where there is no room.

    Args:
        batches: what to list, in this order.
        now_s: the time now, in seconds since the epoch.
        width: columns of the terminal.
        by_dataset: put the id of the dataset above the batches that follow each other in it.
    """
    cells = {id(batch): _cells(batch, now_s) for batch in batches}
    widths = [
        max(cell_len(head), *(row[column].cell_len for row in cells.values()))
        for column, head in enumerate(_HEADS)
    ]
    longest = max(len(batch.batch_id) for batch in batches)
    while widths and width - sum(widths) - _GAP * len(widths) < min(longest, _READABLE):
        widths.pop()
    return Group(*_parts(batches, cells, widths, by_dataset=by_dataset))


def _parts(
    batches: Sequence[r.Batch],
    cells: dict[int, tuple[Text, ...]],
    widths: list[int],
    *,
    by_dataset: bool,
) -> Iterator[RenderableType]:
    if not by_dataset:
        yield _rows(batches, cells, widths, head=True)
        return
    yield _rows([], cells, widths, head=True)
    for dataset_id, together in groupby(batches, key=lambda batch: batch.dataset_id):
        yield Text(dataset_id, "bold")
        yield _rows(list(together), cells, widths, head=False)


def _rows(
    batches: Sequence[r.Batch], cells: dict[int, tuple[Text, ...]], widths: list[int], *, head: bool
) -> Table:
    table = Table(
        box=None,
        expand=True,
        padding=(0, _GAP, 0, 0),
        pad_edge=False,
        header_style="dim",
        show_header=head,
    )
    table.add_column("batch", no_wrap=True, ratio=1)
    for name, width in zip(_HEADS, widths, strict=False):
        table.add_column(name, no_wrap=True, width=width)
    for batch in batches:
        table.add_row(Shortened(batch.batch_id), *cells[id(batch)][: len(widths)])
    return table


def _cells(batch: r.Batch, now_s: float) -> tuple[Text, ...]:
    return (
        state_text(wording.batch_word(batch)),
        _documents(batch),
        Text(wording.moment(batch.create_time, now_s)),
        Text(wording.batch_time_taken(batch, now_s)),
    )


def _documents(batch: r.Batch) -> Text:
    """Return how many have ended of how many, and how many failed; `+` if more may follow."""
    counts = batch.counts
    told = Text(f"{wording.ended(counts)}/{counts.total}" + ("" if batch.sealed else "+"))
    if counts.failed:
        told.append(f", {counts.failed} failed", "red")
    return told
