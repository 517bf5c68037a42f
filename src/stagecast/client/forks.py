"""Processes that were forked after gRPC was in use, where it would hang or fail strangely."""

from __future__ import annotations

import os

_ADVICE = (
    "this process was forked from one that had called stagecast, and gRPC does not survive that: "
    "make the first call after the fork, or start processes with 'spawn' or 'forkserver'"
)
_first_pid: int | None = None  # of the process that opened the first channel


def check_not_forked(*, supported: bool = False) -> None:
    """Note that this process opens a channel.

    Args:
        supported: whether gRPC works here after a fork if its own support for that is enabled.

    Raises:
        RuntimeError: the process was forked from one that has opened a channel.
    """
    global _first_pid  # a fact about the process
    if _first_pid is None:
        _first_pid = os.getpid()
    enabled = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "").lower() in ("1", "true", "yes", "on")
    if _first_pid != os.getpid() and not (supported and enabled):
        hint = "; or set GRPC_ENABLE_FORK_SUPPORT=1 before it starts" if supported else ""
        raise RuntimeError(_ADVICE + hint)
