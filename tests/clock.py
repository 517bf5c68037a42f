"""A fake clock that tests set."""

from __future__ import annotations

START_US = 1_790_000_000_000_000  # some moment in 2026, with whole seconds


class Clock:
    """A clock in microseconds since the epoch; it stands still until a test moves it.

    Attributes:
        now_us: the time of day, which may jump.
        passed_s: the monotonic time.
    """

    def __init__(self, now_us: int = START_US) -> None:
        self.now_us = now_us
        self.passed_s = 0.0

    def __call__(self) -> int:
        return self.now_us

    def monotonic(self) -> float:
        """Return the monotonic time in seconds."""
        return self.passed_s

    def advance(self, seconds: float) -> None:
        """Move the time of day forward, or back."""
        self.now_us += round(seconds * 1_000_000)

    def pass_time(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.advance(seconds)
        self.passed_s += seconds
