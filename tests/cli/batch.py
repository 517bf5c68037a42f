"""A batch for commands, with reports of its documents."""

from __future__ import annotations

from stagecast.client import Stubs
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r


class Batch:
    """A batch and its reports; `name` has its ids, as arguments of commands."""

    def __init__(self, client: Stubs, dataset_id: str, batch_id: str = "batch-1") -> None:
        self.name = (dataset_id, batch_id)
        self._client = client

    async def create(self, *documents: str, sealed: bool = True, dataset_name: str = "") -> None:
        await self._client.reports.CreateBatch(
            pb.CreateBatchRequest(
                dataset_id=self.name[0],
                batch_id=self.name[1],
                documents=[pb.NewDocument(document_id=name) for name in documents],
                more_documents_follow=not sealed,
                dataset_name=dataset_name,
            )
        )

    async def report(self, *reports: pb.DocumentReport) -> None:
        await self._client.reports.Report(
            pb.ReportRequest(dataset_id=self.name[0], batch_id=self.name[1], reports=reports)
        )

    async def succeed(self, *names: str) -> None:
        await self.report(
            *(pb.DocumentReport(document_id=name, stage=r.STAGE_COMPLETED) for name in names)
        )

    async def fail(self, name: str) -> None:
        error = r.DocumentError(reason="PARSE_ERROR", message="Page 3\nis no text.")
        await self.report(pb.DocumentReport(document_id=name, error=error))
