"""Tests of the two HTTP paths."""

from __future__ import annotations
