"""The client library: `api` has its public names; those here are for the commands."""

from __future__ import annotations

import stagecast.client.quiet_grpc  # noqa: F401 - before anything else imports grpc
from stagecast.client.errors import ErrorDetails, details_of
from stagecast.client.retry import Backoff
from stagecast.client.stubs import Stubs

__all__ = ["Backoff", "ErrorDetails", "Stubs", "details_of"]
