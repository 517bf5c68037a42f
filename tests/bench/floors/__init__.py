"""Floors: the least programs that do the same work as stagecast. They contain none of it."""

from __future__ import annotations
