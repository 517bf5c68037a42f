"""Batches to report on, and calls with reports, encoded before anything is measured."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from stagecast.client import Client
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import status_service_pb2 as s
from tests.watches.pipeline import STAGES

MAX_DOCUMENTS = 10_000  # of one call


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A batch without reports yet; a watch starts with `token`, at `revision`."""

    dataset_id: str
    batch_id: str
    document_ids: Sequence[str]
    revision: int
    token: str

    def by_stage(self, reports: int) -> Iterator[bytes]:
        """Yield calls with so many reports on different documents: all documents, stage by stage.

        So no report overtakes an earlier one if fewer calls are in flight than a stage needs.
        """
        for stage in STAGES:
            for start in range(0, len(self.document_ids), reports):
                some = self.document_ids[start : start + reports]
                yield self._call([pb.DocumentReport(document_id=d, stage=stage) for d in some])

    def by_documents(self, documents: int) -> Iterator[bytes]:
        """Yield calls that each take so many documents through all stages."""
        for start in range(0, len(self.document_ids), documents):
            some = self.document_ids[start : start + documents]
            yield self._call(
                [pb.DocumentReport(document_id=d, stage=stage) for stage in STAGES for d in some]
            )

    def watch(self) -> bytes:
        """Return the request to watch it from the token, without a snapshot."""
        return s.WatchBatchRequest(
            dataset_id=self.dataset_id, batch_id=self.batch_id, resume_token=self.token
        ).SerializeToString()

    def _call(self, reports: Sequence[pb.DocumentReport]) -> bytes:
        return pb.ReportRequest(
            dataset_id=self.dataset_id, batch_id=self.batch_id, reports=reports
        ).SerializeToString()


async def make_work(client: Client, documents: int) -> Work:
    """Create a batch in a dataset of its own."""
    names: dict[str, Any] = {"dataset_id": str(uuid.uuid4()), "batch_id": "bench"}
    new = [pb.NewDocument(document_id=f"papers/{n:05}.pdf") for n in range(documents)]
    created = await client.reports.CreateBatch(pb.CreateBatchRequest(**names, documents=new))
    page = await client.status.ListDocuments(s.ListDocumentsRequest(**names, page_size=1))
    return Work(
        **names,
        document_ids=created.document_ids,
        revision=page.revision,
        token=page.resume_token,
    )


def check_applied(work: Work, answers: Sequence[bytes], reports: int) -> None:
    """Check that each report has made its transition."""
    revision = max(pb.ReportResponse.FromString(answer).revision for answer in answers)
    if revision != work.revision + reports:
        raise AssertionError(f"{reports} reports led from {work.revision} to {revision}")
