"""Tests of the client: real channels, real servers, some of which misbehave."""

from __future__ import annotations
