"""A batch that the page shows, and reports on it."""

from __future__ import annotations

import stagecast


class Pipeline:
    """Creates a batch, and reports on its documents.

    Attributes:
        path: of its page.
    """

    def __init__(self, client: stagecast.AsyncClient, dataset_id: str) -> None:
        self.client = client
        self.name = (dataset_id, "batch-1")
        self.path = f"/datasets/{dataset_id}/batches/batch-1"

    async def create(
        self,
        *documents: str,
        sealed: bool = True,
        stall_after: float | None = None,
        start_after: float | None = None,
    ) -> None:
        await self.client.create_batch(
            self.name[0],
            documents,
            batch_id=self.name[1],
            more_documents_follow=not sealed,
            stall_after=stall_after,
            start_after=start_after,
        )

    async def enter(self, stage: stagecast.Stage, *documents: str) -> None:
        reports = [stagecast.DocumentReport(document_id=one, stage=stage) for one in documents]
        await self.client.report(*self.name, reports)

    async def succeed(self, *documents: str) -> None:
        await self.enter(stagecast.Stage.COMPLETED, *documents)

    async def count(self, document: str, completed: int, total: int | None = None) -> None:
        progress = stagecast.Progress(completed_segments=completed, total_segments=total)
        report = stagecast.DocumentReport(document_id=document, progress=progress)
        await self.client.report(*self.name, [report])

    async def fail(
        self, *documents: str, reason: str = "DECODE_ERROR", message: str = "Page 3\nis no text."
    ) -> None:
        error = stagecast.DocumentError(reason=reason, message=message)
        reports = [stagecast.DocumentReport(document_id=one, error=error) for one in documents]
        await self.client.report(*self.name, reports)
