"""The contract suite of all stores, as a base class.

A subclass provides the fixtures `store`, `clock` (its commit times) and `committed`: what was
passed to its `on_commit`, once for each transaction.
"""

from __future__ import annotations

from tests.store.changes import ChangesContract
from tests.store.deletion import DeletionContract
from tests.store.encoded import EncodedContract
from tests.store.history import HistoryContract
from tests.store.keys import KeysContract
from tests.store.lists import ListsContract
from tests.store.records import RecordsContract
from tests.store.timers import TimersContract
from tests.store.transactions import DEADLINE_S, TransactionsContract
from tests.store.visibility import VisibilityContract

__all__ = ["DEADLINE_S", "StoreContract"]


class StoreContract(
    RecordsContract,
    ListsContract,
    DeletionContract,
    EncodedContract,
    HistoryContract,
    KeysContract,
    TimersContract,
    TransactionsContract,
    ChangesContract,
    VisibilityContract,
):
    """Inherit, and provide the fixtures."""
