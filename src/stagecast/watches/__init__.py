"""Watches: a batch transition by transition, datasets as they change, or a batch until its end.

A watch subscribes to the notifier, reads, sends, and waits for a notification. Notifications follow
the commit, so nothing is sent that a crash could undo.
"""

from __future__ import annotations

from stagecast.watches.batch import BatchWatches
from stagecast.watches.datasets import DatasetWatches
from stagecast.watches.waits import Waits

__all__ = ["BatchWatches", "DatasetWatches", "Waits"]
