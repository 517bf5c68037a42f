"""Tests of `Reporter` and `AsyncReporter`."""

from __future__ import annotations
