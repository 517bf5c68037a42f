"""Where everything is kept: the protocol, and one package for each technology."""

from __future__ import annotations

from stagecast.store.lookups import (
    document_not_found,
    get_batch,
    get_call,
    get_dataset,
    get_document,
)
from stagecast.store.protocol import (
    BatchName,
    DatasetNews,
    Head,
    HistoryLimit,
    IdleBatch,
    Lease,
    Place,
    Reading,
    Store,
    Topic,
    Writing,
)
from stagecast.store.timeouts import store_timeout

__all__ = [
    "BatchName",
    "DatasetNews",
    "Head",
    "HistoryLimit",
    "IdleBatch",
    "Lease",
    "Place",
    "Reading",
    "Store",
    "Topic",
    "Writing",
    "document_not_found",
    "get_batch",
    "get_call",
    "get_dataset",
    "get_document",
    "store_timeout",
]
