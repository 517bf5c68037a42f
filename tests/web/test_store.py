"""What the page makes of messages: its modules, in the browser that runs them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.web.conftest import Open
from tests.web.tab import Tab

pytestmark = [pytest.mark.browser, pytest.mark.slow]


async def _run(tab: Tab, module: str, body: str) -> Any:
    """Run the body of a function with the module as `m`, and return its result."""
    static = (await tab.find("script").get_attribute("src") or "").rpartition("/")[0]
    script = f"async () => {{ const m = await import('{static}/{module}'); {body} }}"
    return await tab.page.evaluate(script)


def _document(name: str, state: str = "PENDING", **more: object) -> dict[str, object]:
    head = {"documentId": name, "state": f"DOCUMENT_STATE_{state}", "stage": "STAGE_WAITING"}
    return {**head, "attempt": 1, "updateTime": "2026-11-29T10:00:00.250Z", **more}


def _transition(revision: int, document: dict[str, object]) -> dict[str, object]:
    return {
        "revision": str(revision),
        "kind": "TRANSITION_KIND_STARTED",
        "document": document,
        "commitTime": "2026-11-29T10:00:00Z",
    }


def _message(revision: int | None, **content: object) -> dict[str, object]:
    """Return a message; without a revision, one that is only a part."""
    if revision is None:
        return content
    batch = {"state": "BATCH_STATE_RUNNING", "counts": {"total": "2"}}
    return {**content, "batch": batch, "revision": str(revision), "resumeToken": f"t{revision}"}


def _applied(*messages: dict[str, object]) -> str:
    return f"""
        const seen = [];
        const store = new m.BatchStore((one) => seen.push(one.revision));
        const states = () => [...store.documents.values()].map((one) => one.state);
        const steps = {json.dumps(messages)}.map((one) => [store.apply(one), states()]);
    """


FIRST = _message(3, snapshot={"documents": [_document("a"), _document("b")], "complete": True})


async def test_parts_of_a_change_are_shown_together(visit: Open) -> None:
    messages = (
        FIRST,
        _message(None, transitions=[_transition(4, _document("a", "RUNNING"))]),
        _message(5, transitions=[_transition(5, _document("b", "RUNNING"))]),
    )
    async with visit("/") as tab:
        steps = await _run(tab, "store.js", _applied(*messages) + "return steps;")
    pending, running = ["pending", "pending"], ["running", "running"]
    assert steps == [[True, pending], [False, pending], [True, running]]


async def test_part_of_a_lost_stream_is_never_shown(visit: Open) -> None:
    part = _message(None, transitions=[_transition(4, _document("a", "RUNNING"))])
    again = _message(4, transitions=[_transition(4, _document("a", "PAUSED"))])
    script = (
        _applied(FIRST, part)
        + f"""
        store.begin();
        store.apply({json.dumps(again)});
        return [states(), seen];
    """
    )
    async with visit("/") as tab:
        assert await _run(tab, "store.js", script) == [["paused", "pending"], [4]]


async def test_gap_is_noticed(visit: Open) -> None:
    script = (
        _applied(FIRST)
        + f"""
        try {{
          store.apply({json.dumps(_message(6, transitions=[_transition(6, _document("a"))]))});
        }} catch (error) {{
          return error.message;
        }}
    """
    )
    async with visit("/") as tab:
        assert await _run(tab, "store.js", script) == "revision 6 follows 3"


async def test_snapshot_replaces_all(visit: Open) -> None:
    second = _message(9, snapshot={"reason": "SNAPSHOT_REASON_TOKEN_EXPIRED", "documents": []})
    script = _applied(FIRST, second) + "return [states(), store.reason, store.revision];"
    async with visit("/") as tab:
        assert await _run(tab, "store.js", script) == [[], "token expired", 9]


async def test_document_that_changed_while_its_page_was_read_is_shown_as_it_is(
    visit: Open,
) -> None:
    newer = _message(4, transitions=[_transition(4, _document("a", "SUCCEEDED"))])
    script = f"""
        const store = new m.BatchStore();
        store.partial = true;
        const passed = store.beginList();
        store.apply({json.dumps(newer)});
        store.add({json.dumps([_document("a", "RUNNING"), _document("b")])}, passed);
        store.endList(passed);
        return [...store.documents.values()].map((one) => one.state);
    """
    async with visit("/") as tab:
        assert await _run(tab, "store.js", script) == ["succeeded", "pending"]


async def test_stage_of_a_list_that_is_newer_than_the_watch_is_kept(visit: Open) -> None:
    counts = {"total": "3", "running": "3"}
    listed = _document("a", "RUNNING") | {"stage": "STAGE_INDEXING", "revision": "6"}
    older = _document("a", "RUNNING") | {"stage": "STAGE_PARSING", "revision": "4"}
    other = _document("b", "RUNNING") | {"stage": "STAGE_PARSING", "revision": "5"}
    last = _document("a", "SUCCEEDED") | {"stage": "STAGE_COMPLETED", "revision": "7"}
    changes = [_transition(number, one) for number, one in ((4, older), (5, other), (7, last))]
    script = f"""
        const store = new m.BatchStore();
        store.partial = true;
        store.batch = m.toBatch({{ counts: {json.dumps(counts)} }});
        store.note({json.dumps([listed])});
        return {json.dumps(changes)}.map((one) => {{
          store.put(m.toTransition(one).document);
          return store.stageCounts().map(({{ open }}) => open);
        }});
    """
    async with visit("/") as tab:
        steps = await _run(tab, "store.js", script)
    assert steps == [[2, 0, 0, 0, 1], [1, 1, 0, 0, 1], [2, 1, 0, 0, 0]]


async def test_title_and_icon_of_a_hidden_tab_are_painted_without_frames(visit: Open) -> None:
    script = """
        const frame = window.requestAnimationFrame;
        window.requestAnimationFrame = () => 0;
        await new Promise((resolve) => m.painter(resolve)());
        window.requestAnimationFrame = frame;
        return true;
    """
    async with visit("/") as tab:
        assert await _run(tab, "paint.js", script)


async def test_step_of_a_document_is_shown(visit: Open) -> None:
    step = {"name": "pages", "completed": "3", "total": "12"}
    progress = [{"documentId": "a", "attempt": 1, "progress": {"step": step}}]
    script = (
        _applied(FIRST, _message(3, progress=progress))
        + """
        const list = document.querySelector("script").src.replace(/[^/]+$/, "list.js");
        const { stepOf } = await import(list);
        return stepOf(store.documents.get("a").step);
    """
    )
    async with visit("/") as tab:
        assert await _run(tab, "store.js", script) == "pages 3 of 12"


def _estimate(counts: dict[str, int], *, samples: list[tuple[int, float]], now_s: int) -> str:
    """Return a script for the text of an estimate after samples of seconds and documents."""
    zero = dict.fromkeys(("pending", "running", "paused", "succeeded", "failed", "stopped"), 0)
    batch = {
        "counts": {**zero, "stalled": 0, "total": 100, **counts},
        "state": "running",
        "sealed": True,
        "endedAt": None,
    }
    return f"""
        const pace = new m.Pace();
        for (const [at, done] of {json.dumps(samples)}) pace.add(at * 1000, done, 10 * done);
        const estimate = pace.estimate({json.dumps(batch)}, {now_s} * 1000);
        return estimate.why ?? m.left(estimate);
    """


@pytest.mark.parametrize(
    ("counts", "samples", "now_s", "text"),
    [
        (
            {"running": 5},
            [(second, second / 10) for second in range(61)],
            60,
            "14\u201318 min left",
        ),
        ({"running": 5}, [(0, 0.0), (4, 2.0)], 4, "estimate follows shortly"),
        ({"running": 5}, [(0, 3.0), (12, 3.0)], 12, "estimate follows once a document ends"),
        (
            {"running": 5},
            [(second, float(second)) for second in range(10)],
            90,
            "no estimate: nothing has moved for 1 min",
        ),
        # After a retry.
        ({"running": 5}, [(0, 50.0), (20, 60.0), (21, 40.0)], 21, "estimate follows shortly"),
        ({"pending": 60}, [(0, 50.0), (20, 60.0), (21, 40.0)], 21, "waiting for a worker"),
        (
            {"running": 0, "pending": 40, "succeeded": 60},
            [(second, float(second)) for second in range(10)],
            15,
            "waiting for a worker",
        ),
        (
            {"running": 5, "stalled": 5, "pending": 95},
            [(second, float(second)) for second in range(20)],
            20,
            "no estimate while all that runs is stalled",
        ),
    ],
)
async def test_estimate_is_made_only_of_what_was_observed(
    visit: Open,
    counts: dict[str, int],
    samples: list[tuple[int, float]],
    now_s: int,
    text: str,
) -> None:
    script = _estimate(counts, samples=samples, now_s=now_s)
    async with visit("/") as tab:
        assert await _run(tab, "estimate.js", script) == text


async def test_time_without_an_end_counts_from_the_last_one_before_the_page_was_opened(
    visit: Open,
) -> None:
    script = """
        const pace = new m.Pace();
        pace.seed([1000, 2000, 3000], 7, 60_000);
        pace.add(60_000, 7, 0);
        return pace.movedAt;
    """
    async with visit("/") as tab:
        assert await _run(tab, "estimate.js", script) == 3_000
