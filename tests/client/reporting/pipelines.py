"""What pipelines in tests do, and what a server has of it."""

from __future__ import annotations

from typing import Any

import stagecast


def documents_of(client: stagecast.Client, batch: stagecast.BatchReporter) -> dict[str, Any]:
    """Return the documents of a batch by id."""
    documents = client.list_documents(batch.dataset_id, batch.id)
    return {document.document_id: document for document in documents}


def work(batch: stagecast.BatchReporter) -> list[str]:
    """Complete all pending documents, and return their ids."""
    ids = []
    for doc in batch.pending():
        with doc:
            doc.parsing()
        ids.append(doc.id)
    return ids
