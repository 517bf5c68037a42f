"""For programs that report or watch: stubs on one channel, a watch that survives, error details."""

from __future__ import annotations

from stagecast.client.client import Client
from stagecast.client.errors import ErrorDetails, details_of
from stagecast.client.watch import watch_batch

__all__ = ["Client", "ErrorDetails", "details_of", "watch_batch"]
