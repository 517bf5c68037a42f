"""Watching: a batch transition by transition, datasets as they change, or a batch until its end.

Whoever watches listens to the feed, reads, sends, and waits for the bell. What is pushed was
committed before the bell rang, so nothing is sent that a crash could take back.
"""

from __future__ import annotations

from stagecast.watches.batch import BatchWatches
from stagecast.watches.datasets import DatasetWatches
from stagecast.watches.waits import Waits

__all__ = ["BatchWatches", "DatasetWatches", "Waits"]
