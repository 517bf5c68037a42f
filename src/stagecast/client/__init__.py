"""The client library: stubs on one channel, a watch that reconnects, error details."""

from __future__ import annotations

from stagecast.client.backoff import Backoff
from stagecast.client.client import Client
from stagecast.client.errors import ErrorDetails, details_of

__all__ = ["Backoff", "Client", "ErrorDetails", "details_of"]
