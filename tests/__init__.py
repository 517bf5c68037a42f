"""The tests; they mirror `src`."""

from __future__ import annotations
