"""The client library: stubs on one channel, a watch that reconnects, error details."""

from __future__ import annotations

from stagecast.client.client import Client
from stagecast.client.errors import ErrorDetails, details_of
from stagecast.client.retry import Backoff

__all__ = ["Backoff", "Client", "ErrorDetails", "details_of"]
