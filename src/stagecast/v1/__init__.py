"""The protobuf package `stagecast.v1`: messages and stubs, made from `proto/`, never edited."""

from __future__ import annotations
