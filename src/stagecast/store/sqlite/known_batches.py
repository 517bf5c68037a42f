"""What the writer remembers of batches from one transaction to the next.

It is the newest state of the file while no other connection has committed, which SQLite tells by
`PRAGMA data_version` once the write lock is held. A transaction takes it out of the writer, and
only its COMMIT puts it back: whatever fails in between, nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stagecast.model import (
    Batch,
    Dataset,
    Document,
    batch_size_bound,
    dataset_size_bound,
    size_bound,
)
from stagecast.store.protocol import BatchName

_MAX_RECORDS = 20_000  # about 40 MB; a long one counts as several
_RECORD = 1_024  # bytes of texts of a record, beyond which it is long


@dataclass(slots=True)
class KnownBatch:
    """A batch, the `write_id` of its last transition if it was read, and some of its documents."""

    batch: Batch
    write_id: int | None = None
    documents: dict[str, Document] = field(default_factory=dict)


class KnownBatches:
    """Records with the changes of all calls so far.

    Attributes:
        data_version: the version of the file that they are of.
        batches: by name.
        datasets: by id.
    """

    def __init__(self, data_version: int) -> None:
        self.data_version = data_version
        self.batches: dict[BatchName, KnownBatch] = {}
        self.datasets: dict[str, Dataset] = {}
        self._records = 0

    @property
    def is_full(self) -> bool:
        """Whether to begin anew: simpler than to choose, and as good where all are used in turn."""
        return self._records > _MAX_RECORDS

    def add(self, batch: Batch, write_id: int | None = None) -> KnownBatch:
        """Remember a batch."""
        self._records += 1 + batch_size_bound(batch) // _RECORD
        known = self.batches[batch.dataset_id, batch.batch_id] = KnownBatch(batch, write_id)
        return known

    def add_datasets(self, datasets: Mapping[str, Dataset]) -> None:
        """Remember datasets."""
        self._records += sum(
            1 + dataset_size_bound(dataset) // _RECORD
            for dataset_id, dataset in datasets.items()
            if dataset_id not in self.datasets
        )
        self.datasets.update(datasets)

    def add_documents(self, known: KnownBatch, documents: dict[str, Document]) -> None:
        """Remember documents of a batch."""
        if len(documents) > _MAX_RECORDS:  # however long they are
            self._records += len(documents)
        else:
            self._records += sum(
                1 + size_bound(document) // _RECORD
                for document_id, document in documents.items()
                # A known one becomes long by its error only.
                if document.error is not None or document_id not in known.documents
            )
        known.documents.update(documents)

    def forget(self) -> None:
        """Forget everything: batches or datasets were deleted."""
        self.batches.clear()
        self.datasets.clear()
        self._records = 0
