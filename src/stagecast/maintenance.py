"""Looking after a store's file without a server: like `app`, it names which store that is."""

from __future__ import annotations

from stagecast.store.sqlite import Inspection, copy_file, inspect_file, list_keys

__all__ = ["Inspection", "copy_file", "inspect_file", "list_keys"]
