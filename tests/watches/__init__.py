"""Tests of watches, guarantee by guarantee."""

from __future__ import annotations
