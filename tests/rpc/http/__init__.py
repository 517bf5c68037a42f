"""Tests of the RPCs over HTTP."""

from __future__ import annotations
