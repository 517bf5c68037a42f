"""The view of a watch after each message, and its table."""

from __future__ import annotations

import io
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from stagecast.cli.render import formatting, plain
from stagecast.cli.render.table import picture
from stagecast.cli.render.view import View
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s

NOW_S = 1_790_000_100


def document(
    name: str, state: str = "RUNNING", stage: str = "INDEXING", **fields: Any
) -> r.Document:
    started = None if state == "PENDING" else Timestamp(seconds=NOW_S - 90)
    return r.Document(
        document_id=name,
        state=r.DocumentState.Value(f"DOCUMENT_STATE_{state}"),
        stage=r.Stage.Value(f"STAGE_{stage}"),
        attempt=1,
        processing_start_time=started,
        **fields,
    )


def failed(name: str, message: str = "no text") -> r.Document:
    error = r.DocumentError(reason="PARSE_ERROR", message=message)
    stopped = Timestamp(seconds=NOW_S - 80)
    return document(name, "FAILED", "PARSING", error=error, stop_time=stopped)


def batch(state: str = "RUNNING", **counts: int) -> r.Batch:
    return r.Batch(
        batch_id="batch-1",
        state=r.BatchState.Value(f"BATCH_STATE_{state}"),
        sealed=True,
        counts=r.DocumentCounts(total=sum(counts.values()), **counts),
        end_time=Timestamp(seconds=NOW_S) if state not in ("PENDING", "RUNNING") else None,
    )


def snapshot(*documents: r.Document, **fields: Any) -> s.WatchBatchResponse:
    fields.setdefault("batch", batch())
    return s.WatchBatchResponse(
        snapshot=s.Snapshot(reason=s.SNAPSHOT_REASON_INITIAL, documents=documents, complete=True),
        revision=7,
        resume_token="t",  # noqa: S106 - no secret
        server_time=Timestamp(seconds=NOW_S),
        **fields,
    )


def update(*documents: r.Document, **fields: Any) -> s.WatchBatchResponse:
    fields.setdefault("batch", batch())
    return s.WatchBatchResponse(
        transitions=[
            r.Transition(revision=8 + n, kind=r.TRANSITION_KIND_STAGE_ENTERED, document=changed)
            for n, changed in enumerate(documents)
        ],
        server_time=Timestamp(seconds=NOW_S),
        **fields,
    )


def view_of(*messages: s.WatchBatchResponse) -> View:
    view = View()
    for message in messages:
        view.apply(message)
    return view


def ids(documents: list[r.Document]) -> list[str]:
    return [document.document_id for document in documents]


def painted(
    view: View,
    *,
    width: int = 80,
    height: int = 24,
    silence_s: float = 0.0,
    lost: bool = False,
) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    with console.capture() as capture:
        console.print(picture(view, height=height, silence_s=silence_s, lost=lost))
    return capture.get().splitlines()


def test_view_follows_snapshot_transitions_and_counters() -> None:
    first = snapshot(document("a", "PENDING", "WAITING"), document("b", "PENDING", "WAITING"))
    counted = s.DocumentProgress(
        document_id="a", attempt=1, progress=r.Progress(completed_segments=3, total_segments=9)
    )
    view = view_of(first, update(document("a"), progress=[counted]))
    [a, b] = view.documents(10)
    assert (a.stage, a.progress.completed_segments) == (r.STAGE_INDEXING, 3)
    assert b.state == r.DOCUMENT_STATE_PENDING


def test_view_ignores_counters_of_an_older_attempt() -> None:
    late = s.DocumentProgress(document_id="a", attempt=0, progress=r.Progress(completed_segments=3))
    view = view_of(snapshot(document("a")), update(progress=[late]))
    assert view.documents(1)[0].progress.completed_segments == 0


def test_new_snapshot_replaces_everything() -> None:
    view = view_of(snapshot(document("a"), failed("b")), snapshot(document("c")))
    assert ids(view.documents(10)) == ["c"]
    assert view.failed(10) == []


def test_documents_that_fit_keep_their_order() -> None:
    view = view_of(snapshot(document("a", "PENDING"), failed("b"), document("c")))
    assert ids(view.documents(3)) == ["a", "b", "c"]


def test_running_then_failed_documents_come_first_if_not_all_fit() -> None:
    pending = [document(f"p{n}", "PENDING", "WAITING") for n in range(100)]
    view = view_of(snapshot(*pending), update(failed("p7"), failed("p8"), document("p90")))
    assert ids(view.documents(5)) == ["p90", "p8", "p7", "p0", "p1"]


def test_stalled_documents_come_before_those_that_run() -> None:
    running = [document(f"r{n}") for n in range(50)]
    view = view_of(snapshot(*running), update(document("r7", stalled=True)))
    view.apply(update(document("r9", stalled=True)))
    assert ids(view.documents(4)) == ["r7", "r9", "r0", "r1"]
    view.apply(update(document("r7"), failed("r9")))
    assert ids(view.documents(3)) == ["r0", "r1", "r9"]


def test_failed_documents_get_up_to_a_third_of_the_rows() -> None:
    running = [document(f"r{n}") for n in range(50)]
    view = view_of(snapshot(*running, *(failed(f"f{n}") for n in range(50))))
    assert ids(view.documents(6)) == ["r0", "r1", "r2", "r3", "f49", "f48"]


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("height", [3, 10, 24])
def test_table_fits_the_terminal(width: int, height: int) -> None:
    many = [
        document(
            f"{'long ' * n}name",
            progress=r.Progress(
                total_segments=9,
                step=r.Step(name="long " * (n % 12), total=10**9) if n % 2 else None,
            ),
        )
        for n in range(99)
    ]
    shown = painted(view_of(snapshot(*many, failed("f"))), width=width, height=height, silence_s=60)
    assert len(shown) <= max(height, 7)
    assert all(len(line) <= width for line in shown)


def test_table_shows_states_bars_times_and_errors() -> None:
    view = view_of(
        snapshot(
            document("a", progress=r.Progress(completed_segments=3, total_segments=12)),
            document("b", "PENDING", "WAITING"),
            failed("c", "page 3\n\x1b[31mis [red]no[/red] text"),
            document("d", "RUNNING", "CLEANING", stalled=True),
            batch=batch(pending=1, running=2, failed=1),
        )
    )
    summary, counts, _head, a, b, c, d = painted(view, width=120)
    assert summary.startswith("batch-1  running")
    assert summary.endswith("1/4 documents")
    assert counts.strip() == "1 pending, 2 running, 1 failed"
    assert a.split()[:3] == ["a", "running", "indexing"]
    assert a.split()[-3:] == ["3/12", "1:30", "min"]
    assert b.split() == ["b", "pending", "waiting"]
    assert r"PARSE_ERROR: page 3 \x1b[31mis [red]no[/red] " in c
    assert c.endswith("10.0 s")
    assert d.split()[:3] == ["d", "stalled", "cleaning"]


@pytest.mark.parametrize(
    ("progress", "counters", "has_bar"),
    [
        (r.Progress(step=r.Step(name="pages", completed=3)), "pages 3", False),
        (r.Progress(step=r.Step(name="pages", completed=3, total=7)), "pages 3/7", True),
        (
            r.Progress(
                completed_segments=4,
                total_segments=12,
                step=r.Step(name="pages", completed=3),
            ),
            "4/12, pages 3",
            True,
        ),
        (
            r.Progress(completed_segments=2, step=r.Step(name="tables", completed=1, total=2)),
            "2, tables 1/2",
            True,
        ),
    ],
)
def test_table_shows_steps(progress: r.Progress, counters: str, has_bar: bool) -> None:
    [*_, line] = painted(view_of(snapshot(document("a", progress=progress))), width=100)
    assert f"{counters}  " in line
    assert ("━" in line) == has_bar


def test_view_shows_the_newest_step_and_none_in_the_next_stage() -> None:
    a, step = document("a", stage="PARSING"), r.Step(name="pages", completed=3, total=7)
    pushed = s.DocumentProgress(document_id="a", attempt=1, progress=r.Progress(step=step))
    view = view_of(snapshot(a), update(progress=[pushed]))
    assert view.documents(1)[0].progress.step == step
    view.apply(update(document("a", stage="CLEANING")))
    assert not view.documents(1)[0].progress.HasField("step")


def test_table_shows_the_hidden_count_and_a_silent_server() -> None:
    view = view_of(snapshot(*(document(f"d{n}") for n in range(100))))
    shown = painted(view, height=16, silence_s=31)
    assert shown[-2:] == ["… and 90 more", "no message from the server for 31 s; reconnecting"]


def test_table_shows_a_lost_connection_at_once() -> None:
    view = view_of(snapshot(document("a")))
    assert painted(view, silence_s=2)[-1].startswith("a ")
    assert painted(view, silence_s=2, lost=True)[-1].startswith(
        "no message from the server for 2 s"
    )


def test_table_shows_the_end_of_long_names() -> None:
    paths = [f"https://files.example.org/reports/q{n}/final-version.pdf" for n in range(3)]
    [*_, q0, q1, q2] = painted(view_of(snapshot(*map(document, paths))))
    assert "0/final-version.pdf  running" in q0
    assert "1/final-version.pdf  running" in q1
    assert "2/final-version.pdf  running" in q2


def test_plain_lines_show_each_transition_and_the_end() -> None:
    ended = batch("PARTIALLY_SUCCEEDED", succeeded=1, failed=1)
    a = document("a", progress=r.Progress(step=r.Step(name="pages", completed=3)))
    messages = [snapshot(a), update(document("b"), failed("c")), update(batch=ended)]
    assert [row for message in messages for row in plain.message_rows(message)] == [
        ("snapshot (initial) at revision 7",),
        ("0", "", "running", "indexing", "a", "", "pages 3"),
        ("8", "stage_entered", "running", "indexing", "b", "", ""),
        ("9", "stage_entered", "failed", "parsing", "c", "PARSE_ERROR: no text", ""),
    ]
    [*_, last] = plain.message_rows(update(document("b"), batch=ended))
    assert last == ("batch batch-1 partially_succeeded: 1 succeeded, 1 failed",)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (59.97, "1:00 min"),
        (185.2, "3:05 min"),
        (3_599.6, "1:00 h"),
        (97_200, "27:00 h"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert formatting.span(seconds) == text


def test_unknown_enum_values_are_written_as_numbers() -> None:
    assert formatting.word(r.Stage.DESCRIPTOR, 77) == "77"
