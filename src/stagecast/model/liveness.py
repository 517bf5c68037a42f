"""When silence counts, and what a worker is told that gives a sign of life."""

from __future__ import annotations

from dataclasses import dataclass

from stagecast.model.records import SECOND_US, Document, DocumentState, WorkerOrder
from stagecast.model.rules import Change, lose, stall

# Signs of life closer together than this count as one, and so close to each other by the patience
# of the batch: who gives them all the time shall not have all of them written.
_AS_ONE_US = SECOND_US
_AS_ONE_PART = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Timer:
    """A document whose silence, or wait for a worker, is timed.

    `place` is where it stands among all that are timed, those that are due first.
    `heard_at` is when that began: when it was heard from last, stalled, or began to wait.
    `due_at` is when to look at it; its deadline may be later, since it moves with every sign of
    life. `patience_us` is 0 where silence does not count any more.
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
    """Return how long nothing may happen to a document until it stalls or fails; 0 is for ever."""
    if state is DocumentState.PENDING:
        return 0 if stalled else start_after_us
    if state is DocumentState.RUNNING:
        return fail_after_us if stalled else stall_after_us
    return 0


def coalesce_us(stall_after_us: int) -> int:
    """Return the time within which signs of life of a document count as one."""
    return min(_AS_ONE_US, stall_after_us // _AS_ONE_PART)


def deadline(timer: Timer, *, now: int, grace_from: int) -> int | None:
    """Return when a document has been silent for too long, `None` if that does not count.

    What was before `grace_from` does not count, nor what is still to come: the clock was set back.
    """
    if not timer.timeout_us:
        return None
    return max(min(timer.heard_at, now), grace_from) + timer.timeout_us


def give_up(document: Document, *, now: int) -> Change:
    """Return the document after its time was over: stalled, or lost if it was stalled."""
    return lose(document, now=now) if document.stalled else stall(document)


def order_for(document: Document | None, attempt: int) -> WorkerOrder:
    """Return what a worker should do that says it has this attempt; 0 is the current one."""
    if document is None or attempt not in (0, document.attempt):
        return WorkerOrder.DROP
    if document.state is DocumentState.STOPPED:
        return WorkerOrder.STOP
    if document.state.terminal:
        return WorkerOrder.DROP
    return WorkerOrder.PAUSE if document.state is DocumentState.PAUSED else WorkerOrder.GO_ON
