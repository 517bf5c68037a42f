"""Tests of the client, with real channels and real servers, some of which misbehave."""

from __future__ import annotations
