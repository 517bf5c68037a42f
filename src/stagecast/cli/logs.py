"""The log of commands that serve."""

from __future__ import annotations

import logging
import sys


def log_to_stderr(*, name_process: bool = False) -> None:
    """Write the log of this process to stderr; its id on each line, if it is one of several."""
    process = " [%(process)d]" if name_process else ""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"%(asctime)s %(levelname)s{process} %(name)s: %(message)s",
    )
    # It tells what the ready line tells, under the name of its errors.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
