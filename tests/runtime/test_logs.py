"""The log never blocks, is bounded whatever clients send, and cannot be forged."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from stagecast.runtime import logs
from tests.conditions import until


def record(
    message: object, *arguments: object, name: str = "a", level: int = logging.INFO, line: int = 1
) -> logging.LogRecord:
    return logging.LogRecord(name, level, "code.py", line, message, arguments, None)


def formatted(logged: logging.LogRecord, encoding: str = "utf-8") -> list[str]:
    line = "%(levelname)s %(name)s: %(message)s"
    return logs._Formatter(line, encoding).format(logged).split("\n")


class Seconds:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_similar_records_are_rate_limited_and_counted() -> None:
    clock = Seconds()
    limit = logs.RateLimit(clock)
    admitted = [limit.admit(record("%s asked", n)) for n in range(1_000)]
    assert [suppressed for suppressed in admitted if suppressed is not None] == [0] * logs._BURST
    clock.now = logs._INTERVAL_S
    assert limit.admit(record("%s asked", "x")) == 1_000 - logs._BURST
    assert limit.admit(record("%s asked", "x")) is None
    clock.now = 1_000 * logs._INTERVAL_S
    assert limit.admit(record("%s asked", "x")) == 1


@pytest.mark.parametrize(
    "other",
    [{"message": "other %s"}, {"name": "b"}, {"level": logging.ERROR}],
    ids=["template", "logger", "level"],
)
def test_records_of_other_kinds_are_admitted(other: dict[str, Any]) -> None:
    limit = logs.RateLimit(Seconds())
    for n in range(100):
        limit.admit(record("%s asked", n))
    message = other.pop("message", "%s asked")
    assert limit.admit(record(message, 1, **other)) == 0


def test_message_without_template_is_limited_by_source_line() -> None:
    limit = logs.RateLimit(Seconds())
    admitted = [limit.admit(record(f"<object at {n:#x}>")) for n in range(100)]
    assert admitted.count(None) == 100 - logs._BURST
    assert limit.admit(record("elsewhere", line=2)) == 0


def test_number_of_known_kinds_is_bounded() -> None:
    limit = logs.RateLimit(Seconds())
    for n in range(3 * logs._MAX_KINDS):
        limit.admit(record(f"template {n} %s", 1))
    assert len(limit._kinds) <= logs._MAX_KINDS


def test_no_text_can_forge_a_record() -> None:
    forged = "x\n2026-11-29 01:00:00,000 ERROR forged: \x1b[2J\u202e"
    try:
        raise ValueError(forged)
    except ValueError:
        logged = record("asked for %s", forged)
        logged.exc_info = sys.exc_info()
    first, *behind = formatted(logged)
    assert first == (r"INFO a: asked for x\n2026-11-29 01:00:00,000 ERROR forged: \x1b[2J\u202e")
    assert behind[0] == "  Traceback (most recent call last):"
    assert behind[-2:] == [
        "  ValueError: x",
        r"  2026-11-29 01:00:00,000 ERROR forged: \x1b[2J\u202e",
    ]


def test_length_of_a_record_is_bounded() -> None:
    try:
        raise ValueError("y" * 10_000_000)
    except ValueError:
        logged = record("asked for %s", "x" * 10_000_000)
        logged.exc_info = sys.exc_info()
    first, *behind = formatted(logged)
    assert len(first) < 1.1 * logs._MAX_MESSAGE
    assert first.startswith("INFO a: asked for x")
    assert sum(map(len, behind)) < 1.1 * logs._MAX_TRACEBACK


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


async def test_dropped_records_are_counted_and_the_rest_is_complete() -> None:
    with pipe() as (reader, descriptor):
        writer = logs._Writer(descriptor)
        for n in range(3 * logs._MAX_QUEUED):  # a pipe has room for some of them
            writer.put(f"{n:0999}\n".encode())
        read = b""

        async def read_on() -> None:
            nonlocal read
            read += os.read(reader, 65_536)

        await until(lambda: b"records lost" in read, meanwhile=read_on)
        writer.put(b"end\n")
        await until(lambda: read.endswith(b"end\n"), meanwhile=read_on)
        writer.close()
    lines = read.decode().splitlines()
    numbers = [int(line) for line in lines if line.isdigit()]
    reported = [int(line.split()[-1]) for line in lines if "records lost" in line]
    assert numbers == sorted(set(numbers))
    assert sum(reported) + len(numbers) == 3 * logs._MAX_QUEUED


def test_unread_log_delays_the_exit_only_briefly() -> None:
    with pipe() as (_, descriptor):
        writer = logs._Writer(descriptor)
        writer.put(b"x" * 1_000_000)
        writer.close()  # would never return
        assert writer._thread.is_alive()


async def test_log_continues_after_a_failed_write() -> None:
    with pipe() as (reader, descriptor):
        writer = logs._Writer(descriptor)
        full = os.open("/dev/full", os.O_WRONLY)
        cache = os.dup(descriptor)
        os.dup2(full, descriptor)
        writer.put(b"lost\n")
        await until(lambda: writer._lost > 0)
        os.dup2(cache, descriptor)
        writer.put(b"written\n")
        writer.close()
        read = os.read(reader, 65_536).decode()
        for end in (full, cache):
            os.close(end)
    first, second = read.splitlines()
    assert first == "written"
    assert "records lost" in second


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", r"é \u20ac €"),
        ("latin-1", r"é \\u20ac \u20ac"),
        ("ascii", r"\u00e9 \\u20ac \u20ac"),
    ],
)
def test_unencodable_characters_in_logs_are_escaped_unambiguously(
    encoding: str, shown: str
) -> None:
    assert formatted(record("%s", r"é \u20ac €"), encoding) == [f"INFO a: {shown}"]
