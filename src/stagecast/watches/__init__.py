"""Watches: a batch transition by transition, datasets as they change, or a batch until its end.

A watch is a loop that sends what follows its cursor, and waits. Notifications follow the commit, so
nothing is sent that a crash could undo.
"""

from __future__ import annotations

from stagecast.watches.batch import BatchWatches
from stagecast.watches.datasets import DatasetWatches
from stagecast.watches.deadlines import Deadlines
from stagecast.watches.rounds import Rounds
from stagecast.watches.waits import Waits
from stagecast.watches.watch import Receiver, Shared

__all__ = ["BatchWatches", "DatasetWatches", "Deadlines", "Receiver", "Rounds", "Shared", "Waits"]
