"""The command line: the commands of `stagecast`."""

from __future__ import annotations

import os

from stagecast.runtime.stdio import open_missing_descriptors

# Before anything is opened that would get the number of one.
open_missing_descriptors()

# grpc's core has a log of its own, which it reads this for when it is imported. It writes to stderr
# from its own threads, and waits there for a reader. What goes wrong is told by the commands.
os.environ["GRPC_VERBOSITY"] = os.environ.get("GRPC_VERBOSITY") or "NONE"
# What has no size is not a terminal's size, and rich would show nothing on it.
for name in ("COLUMNS", "LINES"):
    if not os.environ.get(name, "").strip("0"):
        os.environ.pop(name, None)

from stagecast.cli.main import main  # noqa: E402 - what it imports opens files, and reads these

__all__ = ["main"]
