"""The command line: `stagecast serve`, `demo`, `watch`."""

from __future__ import annotations

from stagecast.cli.main import main

__all__ = ["main"]
