"""Tests of the commands and their parts."""

from __future__ import annotations
