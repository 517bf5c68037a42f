"""The watch, promise by promise."""

from __future__ import annotations
