"""The log never blocks, has a bound for whatever strangers send, and nobody can forge a record."""

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


def test_records_of_one_kind_come_in_a_burst_and_then_now_and_then_with_their_number() -> None:
    clock = Seconds()
    limit = logs.RateLimit(clock)
    admitted = [limit.admit(record("%s asked", n)) for n in range(1_000)]
    assert [left_out for left_out in admitted if left_out is not None] == [0] * logs._BURST
    clock.now = logs._EVERY_S
    assert limit.admit(record("%s asked", "x")) == 1_000 - logs._BURST
    assert limit.admit(record("%s asked", "x")) is None
    clock.now = 1_000 * logs._EVERY_S
    assert limit.admit(record("%s asked", "x")) == 1


@pytest.mark.parametrize(
    "other",
    [{"message": "other %s"}, {"name": "b"}, {"level": logging.ERROR}],
    ids=["template", "logger", "level"],
)
def test_records_of_other_kinds_are_let_through(other: dict[str, Any]) -> None:
    limit = logs.RateLimit(Seconds())
    for n in range(100):
        limit.admit(record("%s asked", n))
    message = other.pop("message", "%s asked")
    assert limit.admit(record(message, 1, **other)) == 0


def test_a_message_that_is_no_template_counts_by_where_it_is_logged() -> None:
    limit = logs.RateLimit(Seconds())
    admitted = [limit.admit(record(f"<object at {n:#x}>")) for n in range(100)]
    assert admitted.count(None) == 100 - logs._BURST
    assert limit.admit(record("elsewhere", line=2)) == 0


def test_the_kinds_that_are_known_have_a_bound() -> None:
    limit = logs.RateLimit(Seconds())
    for n in range(3 * logs._MAX_KINDS):
        limit.admit(record(f"template {n} %s", 1))
    assert len(limit._kinds) <= logs._MAX_KINDS


def test_no_text_can_pass_for_a_record() -> None:
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


def test_a_record_has_a_longest_length() -> None:
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


async def test_what_nobody_reads_is_counted_and_the_rest_is_whole() -> None:
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


def test_a_log_that_nobody_reads_holds_up_the_end_for_a_moment_only() -> None:
    with pipe() as (_, descriptor):
        writer = logs._Writer(descriptor)
        writer.put(b"x" * 1_000_000)
        writer.close()  # would never return
        assert writer._thread.is_alive()


async def test_a_log_that_cannot_be_written_is_tried_again() -> None:
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
def test_what_the_encoding_of_stderr_lacks_is_escaped_and_no_two_look_alike(
    encoding: str, shown: str
) -> None:
    assert formatted(record("%s", r"é \u20ac €"), encoding) == [f"INFO a: {shown}"]
