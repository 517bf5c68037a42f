"""Draws the picture of a terminal in the README: `python -m tests.picture`.

It shows `stagecast demo` while its server is away, and how it ends, rendered by its own code.
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

from stagecast.cli.demo import summary_of
from stagecast.cli.render.table import picture
from stagecast.cli.render.view import View
from stagecast.demo.incidents import FAILS, STALLS, Incidents
from stagecast.demo.observer import Observer
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb
from tests.process import ROOT

FILE = ROOT / ".github" / "demo.svg"

_COLUMNS, _LINES = 88, 24
_NOW_S = 1_790_000_000
_SILENCE_S = 2.0  # since the server was killed
_REVISION = 33
# A web font, which pages do not load for a picture; viewers use their own monospaced font.
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)

# Document, state, stage, seconds so far, completed and total segments.
_DOCUMENTS = (
    ("samples/fable.txt", "SUCCEEDED", "COMPLETED", 3, 6, 6),
    ("samples/index.txt", "RUNNING", "INDEXING", 3, 4, 6),
    (FAILS, "FAILED", "INDEXING", 2, 0, 6),
    ("samples/pipeline.md", "RUNNING", "INDEXING", 3, 2, 6),
    (STALLS, "STALLED", "INDEXING", 5, 0, 7),
    ("samples/watch.md", "RUNNING", "SPLITTING", 3, 0, 0),
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
    console.print(Text.assemble(("$ ", "dim"), "stagecast demo", "\n"))
    console.print(picture(_view(), height=_LINES, silence_s=_SILENCE_S, lost=True))
    console.print(Text("\n⋮\n", "dim"))
    console.print(Text(_end()))
    console.print()  # descenders of the last line would be cut off
    return _FONT.sub("", console.export_svg(title="stagecast", unique_id="stagecast"))


def words(svg: str) -> list[str]:
    """Return the words of a picture without bars and columns, which depend on rich's release."""
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", svg)
    return re.sub("[━╸╺]", " ", html.unescape(" ".join(texts))).split()


def _end() -> str:
    """Return what the demo says at its end, after the watch has resumed."""
    observer = Observer(Incidents())
    observer.observe(
        pb.WatchBatchResponse(batch=r.Batch(revision=_REVISION - 1), snapshot=pb.Snapshot())
    )
    observer.lost()
    observer.observe(pb.WatchBatchResponse(transitions=[r.Transition(revision=_REVISION)]))
    ended = r.Batch(counts=r.DocumentCounts(total=6, succeeded=6))
    return summary_of(ended, observer)


def _view() -> View:
    counts = r.DocumentCounts(total=6, running=4, succeeded=1, failed=1, stalled=1)
    batch = r.Batch(
        batch_id="20261129171210807467",
        state=r.BATCH_STATE_RUNNING,
        sealed=True,
        counts=counts,
        progress=r.Progress(completed_segments=15, total_segments=25),
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
            document.error.reason = "MODEL_UNAVAILABLE"
            document.error.message = "the demo has made this up"
        if total:
            document.progress.completed_segments = completed
            document.progress.total_segments = total
        yield document


if __name__ == "__main__":
    FILE.write_text(draw())
