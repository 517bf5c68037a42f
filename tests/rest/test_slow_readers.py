"""Clients that have stopped reading are found by their unsent data; merely slow ones are not."""

from __future__ import annotations

from typing import Any

from stagecast.rest.slow_readers import SlowReaders

TIMEOUT_S = 10.0


class Connection:
    """A connection with a number of unsent bytes."""

    def __init__(self, unsent: int) -> None:
        self.unsent = unsent

    def get_write_buffer_size(self) -> int:
        return self.unsent


def test_slow_reader_is_found_after_the_timeout() -> None:
    slow_readers = SlowReaders(TIMEOUT_S, max_bytes=100)
    connections: list[Any] = [Connection(5), Connection(5), Connection(0)]
    stopped, slow, _ = connections
    assert slow_readers.find(connections, 100.0) == []
    slow.unsent = 4
    assert slow_readers.find(connections, 109.9) == []
    assert slow_readers.find(connections, 110.0) == [stopped]
    assert slow_readers.find(connections, 119.9) == [stopped, slow]


def test_timeout_restarts_when_a_reader_has_caught_up() -> None:
    slow_readers, connection = SlowReaders(TIMEOUT_S, max_bytes=100), Connection(5)
    connections: list[Any] = [connection]
    assert slow_readers.find(connections, 0.0) == []
    connection.unsent = 0
    assert slow_readers.find(connections, 5.0) == []
    connection.unsent = 5
    assert slow_readers.find(connections, 9.0) == []
    assert slow_readers.find(connections, 18.9) == []
    assert slow_readers.find(connections, 19.0) == connections
    assert slow_readers.find([], 20.0) == []


def test_timeout_is_short_while_too_much_waits_for_all_readers() -> None:
    slow_readers = SlowReaders(TIMEOUT_S, max_bytes=100)
    connections: list[Any] = [Connection(60), Connection(40)]
    stopped, slow = connections
    assert slow_readers.find(connections, 0.0) == []
    assert slow_readers.find(connections, 5.0) == []
    slow.unsent = 41
    assert slow_readers.find(connections, 5.1) == [stopped]
