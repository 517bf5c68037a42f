"""The command line: the commands of `stagecast`."""

from __future__ import annotations

import os

# grpc's core has a log of its own, which it reads this for when it is imported. What goes wrong is
# told by the commands, in one line.
os.environ["GRPC_VERBOSITY"] = os.environ.get("GRPC_VERBOSITY") or "NONE"
# What has no size is not a terminal's size, and rich would show nothing on it.
for name in ("COLUMNS", "LINES"):
    if not os.environ.get(name, "").strip("0"):
        os.environ.pop(name, None)

from stagecast.cli.main import main  # noqa: E402 - reads what is set above

__all__ = ["main"]
