"""Maintenance of a store's file without a server; like `app`, it names the concrete store."""

from __future__ import annotations

from stagecast.store.sqlite import Inspection, copy_file, inspect_file, list_keys

__all__ = ["Inspection", "copy_file", "inspect_file", "list_keys"]
