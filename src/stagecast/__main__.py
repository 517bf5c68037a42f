"""The entry point of `stagecast` and `python -m stagecast`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line; Ctrl-C exits quietly even during imports."""
    try:
        from stagecast.cli import main as command
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    command(prog_name="stagecast")


if __name__ == "__main__":
    main()
