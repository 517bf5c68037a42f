"""The live table of a batch: a summary, and as many documents as fit the terminal.

It is painted from the `View` about ten times a second at most, however many messages arrive. It
uses the alternate screen, as lines move unpredictably when a terminal is resized.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stagecast.cli.render import formatting
from stagecast.cli.render.ellipsis import Shortened
from stagecast.cli.render.view import View
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb

_MIN_FRAME_S = 0.08
_MAX_FRAME_S = 0.5  # to update the times of running documents
_SILENCE_S = 20.0  # heartbeats come every 15 s
_LINES_AROUND = 6  # summary (2), head, foot (up to 2), the line of the cursor
_MAX_FAILURES = 10  # printed in full at the end

_STYLES = {
    "pending": "dim",
    "running": "cyan",
    "stalled": "yellow",
    "paused": "yellow",
    "succeeded": "green",
    "partially_succeeded": "yellow",
    "failed": "red",
    "stopped": "magenta",
}


class LiveTable:
    """Shows a batch on a terminal for as long as an `async with` block.

    Args:
        console: the terminal; nothing is shown before the first message.
        note: a last line, as the lines before the table are hidden meanwhile.

    Raises:
        ExceptionGroup: of the errors of the block, or of `OutputFailed`, which ends the block.
    """

    def __init__(self, console: Console, *, note: str = "") -> None:
        self._console = console
        self._note = note
        self._view = View()
        self._changed = asyncio.Event()
        self._last_message_at = 0.0
        self._lost = False
        self._live = Live(
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._painter = self._tasks.create_task(self._paint())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._painter.cancel()
        try:
            # A failure to paint has ended the block.
            await self._tasks.__aexit__(kind, error, traceback)
        finally:
            if self._painter.cancelled():  # else painting has failed, and would again
                self._print_last_picture()

    def _print_last_picture(self) -> None:
        """Leave the alternate screen, and print the last state of the view."""
        if self._live.is_started:
            self._live.stop()
            self._note = ""
            self._console.print(self._picture())
        if self._view.terminal:
            self._console.print(failures(self._view))

    def apply(self, message: pb.WatchBatchResponse) -> None:
        """Update the view with a message of the watch."""
        self._view.apply(message)
        self._last_message_at = asyncio.get_running_loop().time()
        self._lost = False
        self._changed.set()

    def lost(self) -> None:
        """Show that the connection is lost, until the next message."""
        self._lost = True

    async def _paint(self) -> None:
        await self._changed.wait()
        self._live.start()
        while True:
            self._changed.clear()
            self._live.update(self._picture(), refresh=True)
            await asyncio.sleep(_MIN_FRAME_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_MAX_FRAME_S):
                    await self._changed.wait()

    def _picture(self) -> RenderableType:
        silence_s = asyncio.get_running_loop().time() - self._last_message_at
        return picture(
            self._view,
            height=self._console.height,
            silence_s=silence_s,
            lost=self._lost,
            note=self._note,
        )


def picture(
    view: View, *, height: int, silence_s: float, lost: bool, note: str = ""
) -> RenderableType:
    """Return the table for a terminal of `height` lines.

    Args:
        view: the batch and its documents.
        height: lines of the terminal.
        silence_s: seconds since the last message.
        lost: whether the connection is lost.
        note: a last line, if any.
    """
    documents = view.documents(max(1, height - _LINES_AROUND - bool(note)))
    return Group(
        summary(view.batch),
        documents_table(documents, view.now_s + silence_s),
        *_foot(len(view) - len(documents), silence_s, lost=lost),
        *([Text(note, "dim", no_wrap=True)] if note else []),
    )


def summary(batch: r.Batch) -> RenderableType:
    """Return the summary of a batch: two lines."""
    ended = formatting.ended(batch.counts)
    grid = Table.grid(expand=True, padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, max_width=24)  # ids may have 128
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(
        Shortened(batch.batch_id, "bold"),
        state_text(formatting.batch_word(batch)),
        _bar(ended, batch.counts.total),
        Text(formatting.documents_line(batch.counts)),
    )
    return Group(grid, Text(formatting.contents_line(batch), "dim"))


def documents_table(documents: Sequence[r.Document], now_s: float) -> Table:
    """Return documents as rows, with their durations at a time."""
    rows = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    rows.add_column("document", no_wrap=True, ratio=4)
    rows.add_column("state", no_wrap=True, min_width=9)
    rows.add_column("stage", no_wrap=True, min_width=9)
    rows.add_column("segments", no_wrap=True, overflow="ellipsis", ratio=5)
    rows.add_column("time", no_wrap=True, justify="right", min_width=8)
    for document in documents:
        rows.add_row(*_row(document, now_s))
    return rows


def failures(view: View, *, limit: int = _MAX_FAILURES) -> Group:
    """Return the full errors of failed documents, which do not fit the table."""
    failed = view.failed(limit)
    lines = [
        f"{formatting.shown(document.document_id)}: {formatting.error_line(document)}"
        for document in failed
    ]
    more = view.batch.counts.failed - len(failed)
    if more > 0:
        lines.append(f"and {more} more failed")
    return Group(*(Text(line, "red") for line in ["", *lines] if lines))


def state_text(word: str) -> Text:
    """Return a state in its colour."""
    return Text(word.replace("_", " "), _STYLES.get(word, ""))


def name_text(document: r.Document) -> RenderableType:
    """Return the id of a document, followed by its display name if there is room."""
    return Shortened(
        formatting.shown(document.document_id), beside=formatting.display_name(document)
    )


def _row(document: r.Document, now_s: float) -> tuple[RenderableType, ...]:
    return (
        name_text(document),
        state_text(formatting.document_word(document)),
        Text(formatting.stage_word(document)),
        _progress(document),
        Text(formatting.elapsed(document, now_s)),
    )


def _progress(document: r.Document) -> RenderableType:
    """Return a bar of the segments, else of the step, and the counters of both; or the error."""
    if document.state == r.DOCUMENT_STATE_FAILED:
        return Text(formatting.error_line(document), "red")
    progress = document.progress
    counters = Text(formatting.counters(progress))
    if progress.HasField("total_segments"):
        bar = _bar(progress.completed_segments, progress.total_segments)
    elif progress.step.HasField("total"):
        bar = _bar(progress.step.completed, progress.step.total)
    else:
        return counters
    grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True, overflow="ellipsis", justify="right", min_width=5)
    grid.add_row(bar, counters)
    return grid


def _bar(completed: int, total: int) -> ProgressBar:
    return ProgressBar(
        total=max(1, total),
        completed=completed,
        complete_style=_STYLES["running"],  # the default is close to the red of failures
        finished_style=_STYLES["succeeded"],
    )


def _foot(hidden: int, silence_s: float, *, lost: bool) -> list[Text]:
    lines = [Text(f"… and {hidden} more", "dim")] if hidden else []
    if lost or silence_s > _SILENCE_S:
        lines.append(
            Text(f"no message from the server for {silence_s:.0f} s; reconnecting", "yellow")
        )
    return lines
