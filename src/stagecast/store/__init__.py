"""Stores: the protocol, and one package for each technology."""

from __future__ import annotations

from stagecast.store.lookups import (
    document_not_found,
    get_batch,
    get_dataset,
    get_document,
    get_write_id,
)
from stagecast.store.protocol import (
    BatchName,
    DatasetNews,
    Head,
    HistoryLimit,
    IdleBatch,
    Lease,
    ReadTransaction,
    Store,
    TimerKey,
    Topic,
    WriteTransaction,
)
from stagecast.store.timeouts import store_timeout

__all__ = [
    "BatchName",
    "DatasetNews",
    "Head",
    "HistoryLimit",
    "IdleBatch",
    "Lease",
    "ReadTransaction",
    "Store",
    "TimerKey",
    "Topic",
    "WriteTransaction",
    "document_not_found",
    "get_batch",
    "get_dataset",
    "get_document",
    "get_write_id",
    "store_timeout",
]
