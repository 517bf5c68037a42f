"""Timeouts of documents and orders to workers: every combination."""

from __future__ import annotations

import pytest

from stagecast.model import (
    DocumentState,
    Timer,
    TransitionKind,
    WorkerOrder,
    coalesce_us,
    deadline,
    give_up,
    order_for,
    timeout_us,
)
from tests.builders import document_in

_STATE = DocumentState

ORDERS = {
    _STATE.PENDING: WorkerOrder.GO_ON,
    _STATE.RUNNING: WorkerOrder.GO_ON,
    _STATE.PAUSED: WorkerOrder.PAUSE,
    _STATE.SUCCEEDED: WorkerOrder.DROP,
    _STATE.FAILED: WorkerOrder.DROP,
    _STATE.STOPPED: WorkerOrder.STOP,
}


@pytest.mark.parametrize("state", _STATE)
def test_order_of_the_current_attempt_follows_the_state(state: DocumentState) -> None:
    document = document_in(state, attempt=3)
    assert order_for(document, 3) == order_for(document, 0) == ORDERS[state]


@pytest.mark.parametrize("state", _STATE)
@pytest.mark.parametrize("attempt", [1, 2, 4])
def test_any_other_attempt_is_to_be_dropped(state: DocumentState, attempt: int) -> None:
    assert order_for(document_in(state, attempt=3), attempt) is WorkerOrder.DROP


def test_missing_document_is_to_be_dropped() -> None:
    assert order_for(None, 0) is WorkerOrder.DROP


@pytest.mark.parametrize("state", _STATE)
@pytest.mark.parametrize("stalled", [False, True])
def test_only_pending_and_running_documents_have_a_timeout(
    state: DocumentState, stalled: bool
) -> None:
    timed = {_STATE.PENDING: (90, 0), _STATE.RUNNING: (60, 20)}
    spans = {"start_after_us": 90, "stall_after_us": 60, "fail_after_us": 20}
    assert timeout_us(state, stalled, **spans) == timed.get(state, (0, 0))[stalled]


@pytest.mark.parametrize(
    ("heard_at", "now", "grace_from", "at"),
    [
        (100, 130, 0, 160),
        (100, 130, 120, 180),
        (100, 130, 90, 160),
        (100, 40, 0, 100),
        (100, 40, 30, 100),
        (100, 40, 40, 100),
    ],
    ids=["heard", "later_grace", "earlier_grace", "ahead", "ahead_after_grace", "set_back"],
)
def test_deadline_is_from_last_sign_of_life_or_grace(
    heard_at: int, now: int, grace_from: int, at: int
) -> None:
    assert deadline(_timer(heard_at, 60), now=now, grace_from=grace_from) == at
    assert deadline(_timer(heard_at, 0), now=now, grace_from=grace_from) is None


def _timer(heard_at: int, timeout: int) -> Timer:
    return Timer(
        dataset_id="",
        batch_id="",
        document_id="",
        key=(1, 1, 1),
        heard_at=heard_at,
        due_at=1,
        timeout_us=timeout,
    )


def test_silent_document_stalls_and_is_lost_later() -> None:
    running = document_in(_STATE.RUNNING)
    stalled = give_up(running, now=10_000)
    assert stalled.kind is TransitionKind.STALLED
    lost = give_up(stalled.document, now=20_000)
    assert lost.kind is TransitionKind.FAILED
    assert lost.document.error is not None
    assert lost.document.error.reason == "WORKER_LOST"


def test_document_not_started_stalls_and_never_fails() -> None:
    stalled = give_up(document_in(_STATE.PENDING), now=10_000)
    assert (stalled.kind, stalled.document.state) == (TransitionKind.STALLED, _STATE.PENDING)
    assert give_up(stalled.document, now=20_000).document is stalled.document


@pytest.mark.parametrize(
    "state", [state for state in _STATE if state not in (_STATE.PENDING, _STATE.RUNNING)]
)
def test_other_documents_do_not_time_out(state: DocumentState) -> None:
    document = document_in(state)
    assert give_up(document, now=10_000).document is document


@pytest.mark.parametrize(
    ("stall_after_us", "interval"),
    [(0, 0), (1_000_000, 50_000), (20_000_000, 1_000_000), (300_000_000, 1_000_000)],
)
def test_signs_of_life_coalesce_within_1_s_or_a_twentieth(
    stall_after_us: int, interval: int
) -> None:
    assert coalesce_us(stall_after_us) == interval
