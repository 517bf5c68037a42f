"""Load: clients that cost next to nothing, and the calls, watches and polls that they make."""

from __future__ import annotations
