"""Draws the picture of a terminal in the README: `python -m tests.picture`.

It shows `stagecast watch` in the middle of a batch, rendered by the code of the command.
`test_picture.py` compares its text with the committed file.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.text import Text

from stagecast.cli.render.table import picture
from stagecast.cli.render.view import View
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb
from tests.process import ROOT

FILE = ROOT / ".github" / "demo.svg"

_COLUMNS, _LINES = 88, 24
_NOW_S = 1_790_000_000
# A web font, which pages do not load for a picture; viewers use their own monospaced font.
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)

# Document, state, stage, seconds so far, completed and total segments.
_DOCUMENTS = (
    ("handbook.pdf", "SUCCEEDED", "COMPLETED", 48, 112, 112),
    ("contracts/2025.docx", "SUCCEEDED", "COMPLETED", 21, 40, 40),
    ("contracts/2026.docx", "RUNNING", "INDEXING", 17, 23, 38),
    ("minutes/january.md", "RUNNING", "SPLITTING", 6, 0, 0),
    ("minutes/february.md", "RUNNING", "CLEANING", 3, 0, 0),
    ("scans/invoice-17.pdf", "FAILED", "PARSING", 9, 0, 0),
    ("scans/archive.tiff", "STALLED", "PARSING", 413, 0, 0),
    ("faq.html", "PENDING", "WAITING", 0, 0, 0),
)


def draw() -> str:
    """Return the picture as SVG."""
    console = Console(
        record=True,
        width=_COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(Text.assemble(("$ ", "dim"), "stagecast watch $DATASET nightly", "\n"))
    console.print(picture(_view(), height=_LINES, silence_s=0.0, lost=False))
    console.print()  # descenders of the last line would be cut off
    return _FONT.sub("", console.export_svg(title="stagecast", unique_id="stagecast"))


def words(svg: str) -> list[str]:
    """Return the words of a picture without bars and columns, which depend on rich's release."""
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", svg)
    return re.sub("[━╸╺]", " ", html.unescape(" ".join(texts))).split()


def _view() -> View:
    counts = r.DocumentCounts(total=8, pending=1, running=4, succeeded=2, failed=1, stalled=1)
    batch = r.Batch(
        batch_id="nightly",
        state=r.BATCH_STATE_RUNNING,
        sealed=True,
        counts=counts,
        progress=r.Progress(completed_segments=175, total_segments=190),
    )
    view = View()
    view.apply(
        pb.WatchBatchResponse(
            snapshot=pb.Snapshot(documents=_documents(), complete=True),
            batch=batch,
            server_time=Timestamp(seconds=_NOW_S),
        )
    )
    return view


def _documents() -> Iterator[r.Document]:
    for name, state, stage, seconds, completed, total in _DOCUMENTS:
        running = "RUNNING" if state == "STALLED" else state
        document = r.Document(
            document_id=name,
            state=r.DocumentState.Value(f"DOCUMENT_STATE_{running}"),
            stage=r.Stage.Value(f"STAGE_{stage}"),
            attempt=1,
            stalled=state == "STALLED",
        )
        if seconds:
            document.processing_start_time.FromSeconds(_NOW_S - seconds)
        if state == "SUCCEEDED":
            document.complete_time.FromSeconds(_NOW_S)
        if state == "FAILED":
            document.stop_time.FromSeconds(_NOW_S)
            document.error.reason = "OCR_FAILED"
            document.error.message = "no text on page 3"
        if total:
            document.progress.completed_segments = completed
            document.progress.total_segments = total
        yield document


if __name__ == "__main__":
    FILE.write_text(draw())
