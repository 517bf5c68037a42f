"""`python -m stagecast` is `stagecast`."""

from __future__ import annotations

from stagecast.cli import main

main(prog_name="stagecast")
