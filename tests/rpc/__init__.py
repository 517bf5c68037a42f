"""Tests of the gRPC face: a real server, a real client, a real file."""

from __future__ import annotations
