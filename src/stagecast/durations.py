"""Durations as texts: a whole number and a unit, such as `90s`, `5m`, `12h`, `30d` or `2w`."""

from __future__ import annotations

import re

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 31_536_000}

_DURATION = re.compile("([0-9]{1,6})([a-z])", re.ASCII)


def parse_duration(text: str, *, units: str = "smhdw") -> int | None:
    """Return the seconds of a duration, `None` if it is malformed or has none of these units."""
    match = _DURATION.fullmatch(text)
    if match is None or match[2] not in units:
        return None
    return int(match[1]) * SECONDS[match[2]]
