"""Tests of the model."""

from __future__ import annotations
