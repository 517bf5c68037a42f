"""Tests of what stands between protobuf and the model."""

from __future__ import annotations
