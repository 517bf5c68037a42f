"""Stores: the protocol, and one package for each technology."""

from __future__ import annotations

from stagecast.store.lookups import (
    check_history,
    get_batch,
    get_dataset,
    get_encoded_document,
    get_write_id,
    head_of,
)
from stagecast.store.protocol import (
    BatchName,
    Commits,
    Committed,
    DatasetNews,
    Encoder,
    Head,
    HistoryLimit,
    IdleBatch,
    Lease,
    ReadTransaction,
    Store,
    TimerKey,
    Topic,
    Wanted,
    WriteTransaction,
)
from stagecast.store.timeouts import store_timeout, timed_out

__all__ = [
    "BatchName",
    "Commits",
    "Committed",
    "DatasetNews",
    "Encoder",
    "Head",
    "HistoryLimit",
    "IdleBatch",
    "Lease",
    "ReadTransaction",
    "Store",
    "TimerKey",
    "Topic",
    "Wanted",
    "WriteTransaction",
    "check_history",
    "get_batch",
    "get_dataset",
    "get_encoded_document",
    "get_write_id",
    "head_of",
    "store_timeout",
    "timed_out",
]
