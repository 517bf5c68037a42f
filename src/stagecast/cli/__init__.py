"""The command line: the commands of `stagecast`."""

from __future__ import annotations

import os

# grpc's core has a log of its own, which it reads this for when it is imported. What goes wrong is
# told by the commands, in one line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from stagecast.cli.main import main

__all__ = ["main"]
