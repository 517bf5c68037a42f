"""The SQLite store: one file."""

from __future__ import annotations

from stagecast.store.sqlite.backup import copy_file
from stagecast.store.sqlite.database_files import has_keys, list_keys
from stagecast.store.sqlite.integrity import Inspection, inspect_file
from stagecast.store.sqlite.store import SqliteStore, open_file

__all__ = [
    "Inspection",
    "SqliteStore",
    "copy_file",
    "has_keys",
    "inspect_file",
    "list_keys",
    "open_file",
]
