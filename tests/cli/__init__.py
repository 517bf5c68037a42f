"""Tests of the commands and of what they are made of."""

from __future__ import annotations
