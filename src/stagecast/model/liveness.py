"""Timeouts of documents, and the orders that heartbeats are answered with."""

from __future__ import annotations

from dataclasses import dataclass

from stagecast.model.records import SECOND_US, Document, DocumentState, WorkerOrder
from stagecast.model.rules import Change, lose, stall

# Signs of life within this interval, or this fraction of the batch's `stall_after`, are coalesced:
# frequent ones must not cause a write each.
_COALESCE_US = SECOND_US
_COALESCE_FRACTION = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Timer:
    """The timer of a document that is silent or waits for a worker.

    `key` orders timers by `due_at`.
    `heard_at` is the start: the last sign of life, the stall, or the begin of the wait.
    `due_at` is when to check the document; the deadline may be later, since every sign of life
    moves it. `timeout_us` is 0 for a document that cannot time out.
    """

    dataset_id: str
    batch_id: str
    document_id: str
    key: tuple[int, int, int]
    heard_at: int
    due_at: int
    timeout_us: int


def timeout_us(
    state: DocumentState,
    stalled: bool,
    *,
    start_after_us: int,
    stall_after_us: int,
    fail_after_us: int,
) -> int:
    """Return after how much silence a document stalls or fails; 0 is never."""
    if state is DocumentState.PENDING:
        return 0 if stalled else start_after_us
    if state is DocumentState.RUNNING:
        return fail_after_us if stalled else stall_after_us
    return 0


def coalesce_us(stall_after_us: int) -> int:
    """Return the interval within which signs of life of a document are coalesced."""
    return min(_COALESCE_US, stall_after_us // _COALESCE_FRACTION)


def deadline(timer: Timer, *, now: int, grace_from: int) -> int | None:
    """Return when a document times out, `None` for never.

    Silence before `grace_from` does not count. A `heard_at` in the future counts as `now`: the
    clock was set back.
    """
    if not timer.timeout_us:
        return None
    return max(min(timer.heard_at, now), grace_from) + timer.timeout_us


def give_up(document: Document, *, now: int) -> Change:
    """Return the document after its timeout: stalled, or lost if it was stalled already."""
    return lose(document, now=now) if document.stalled else stall(document)


def order_for(document: Document | None, attempt: int) -> WorkerOrder:
    """Return the order for a worker that reports this attempt; 0 is the current one."""
    if document is None or attempt not in (0, document.attempt):
        return WorkerOrder.DROP
    if document.state is DocumentState.STOPPED:
        return WorkerOrder.STOP
    if document.state.terminal:
        return WorkerOrder.DROP
    return WorkerOrder.PAUSE if document.state is DocumentState.PAUSED else WorkerOrder.GO_ON
