"""The command line: the commands of `stagecast`."""

from __future__ import annotations

import os

from stagecast.runtime.stdio import open_missing_descriptors

# First, so that no other file gets the number of a closed standard descriptor.
open_missing_descriptors()

# The core of grpc reads this when it is imported. Its own log blocks on a stderr that is not read;
# the commands report errors themselves.
os.environ["GRPC_VERBOSITY"] = os.environ.get("GRPC_VERBOSITY") or "NONE"
# A size of zero is not a terminal's; rich would show nothing.
for name in ("COLUMNS", "LINES"):
    if not os.environ.get(name, "").strip("0"):
        os.environ.pop(name, None)

from stagecast.cli.main import main  # noqa: E402 - its imports open files and read these variables

__all__ = ["main"]
