"""Tests of `stagecast.auth`."""

from __future__ import annotations
