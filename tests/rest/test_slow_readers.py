"""Who has stopped reading is told from who is slow, by what waits to be sent."""

from __future__ import annotations

from typing import Any

from stagecast.rest.slow_readers import SlowReaders

TIMEOUT_S = 10.0


class Connection:
    """A connection, as far as it tells how much waits to be sent on it."""

    def __init__(self, unsent: int) -> None:
        self.unsent = unsent

    def get_write_buffer_size(self) -> int:
        return self.unsent


def test_connection_is_stalled_when_nothing_was_taken_for_all_of_the_patience() -> None:
    stalled = SlowReaders(TIMEOUT_S)
    open_ones: list[Any] = [Connection(5), Connection(5), Connection(0)]
    stopped, slow, _ = open_ones
    assert stalled.find(open_ones, 100.0) == []
    slow.unsent = 4
    assert stalled.find(open_ones, 109.9) == []
    assert stalled.find(open_ones, 110.0) == [stopped]
    assert stalled.find(open_ones, 119.9) == [stopped, slow]


def test_connection_that_has_caught_up_begins_anew_and_one_that_is_gone_is_forgotten() -> None:
    stalled, connection = SlowReaders(TIMEOUT_S), Connection(5)
    open_ones: list[Any] = [connection]
    assert stalled.find(open_ones, 0.0) == []
    connection.unsent = 0
    assert stalled.find(open_ones, 5.0) == []
    connection.unsent = 5
    assert stalled.find(open_ones, 9.0) == []
    assert stalled.find(open_ones, 18.9) == []
    assert stalled.find(open_ones, 19.0) == open_ones
    assert stalled.find([], 20.0) == []
