"""A clock that tests set."""

from __future__ import annotations

START_US = 1_790_000_000_000_000  # some moment in 2026, with whole seconds


class Clock:
    """Microseconds since the epoch; stands still until it is moved.

    Attributes:
        now_us: what it shows.
        passed_s: what a clock shows that never jumps.
    """

    def __init__(self, now_us: int = START_US) -> None:
        self.now_us = now_us
        self.passed_s = 0.0

    def __call__(self) -> int:
        return self.now_us

    def monotonic(self) -> float:
        """Return what a clock shows that never jumps."""
        return self.passed_s

    def advance(self, seconds: float) -> None:
        """Move the clock on, or back."""
        self.now_us += round(seconds * 1_000_000)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, which all clocks show."""
        self.advance(seconds)
        self.passed_s += seconds
