"""Batches to report on, and calls with reports, encoded before anything is measured."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.duration_pb2 import Duration

from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import status_service_pb2 as s
from tests.bench.load.calls import LIST_DOCUMENTS, REPORT, REPORTS, invoke
from tests.bench.load.http2 import Connection, call
from tests.watches.pipeline import STAGES

_PER_CALL = 1_000  # documents of a call, which fit the window of a new stream
_SILENCE_S = 300  # no heartbeat comes between the messages that are counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A sealed batch without reports yet; a watch starts with `token`, at `revision`."""

    dataset_id: str
    batch_id: str
    document_ids: Sequence[str]
    revision: int
    token: str

    @property
    def names(self) -> dict[str, Any]:
        """The fields that name the batch in a request."""
        return {"dataset_id": self.dataset_id, "batch_id": self.batch_id}

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

    def watch(self, *, heartbeat_s: int = _SILENCE_S, token: str = "") -> bytes:
        """Return the request to watch it from its token or a newer one, without a snapshot."""
        return s.WatchBatchRequest(
            **self.names,
            resume_token=token or self.token,
            heartbeat_interval=Duration(seconds=heartbeat_s),
        ).SerializeToString()

    def watch_with_snapshot(self) -> bytes:
        """Return the request to watch it from the start."""
        return s.WatchBatchRequest(**self.names).SerializeToString()

    def _call(self, reports: Sequence[pb.DocumentReport]) -> bytes:
        return pb.ReportRequest(**self.names, reports=reports).SerializeToString()


async def make_work(
    connection: Connection, documents: int, *, dataset_id: str = "", batch_id: str = "bench"
) -> Work:
    """Create a batch, in a dataset of its own unless one is named."""
    names: dict[str, Any] = {"dataset_id": dataset_id or str(uuid.uuid4()), "batch_id": batch_id}
    ids = [f"papers/{n:06}.pdf" for n in range(documents)]
    create = pb.CreateBatchRequest(**names, more_documents_follow=True)
    await invoke(connection, f"{REPORTS}/CreateBatch", create, pb.CreateBatchResponse)
    for start in range(0, documents, _PER_CALL):
        new = [pb.NewDocument(document_id=each) for each in ids[start : start + _PER_CALL]]
        add = pb.AddDocumentsRequest(**names, documents=new)
        await invoke(connection, f"{REPORTS}/AddDocuments", add, pb.AddDocumentsResponse)
    seal = pb.SealBatchRequest(**names)
    await invoke(connection, f"{REPORTS}/SealBatch", seal, pb.SealBatchResponse)
    page = await _first_page(connection, names)
    return Work(**names, document_ids=ids, revision=page.revision, token=page.resume_token)


async def current_token(connection: Connection, work: Work) -> str:
    """Return the token of a watch that begins now."""
    return (await _first_page(connection, work.names)).resume_token


async def _first_page(connection: Connection, names: dict[str, Any]) -> s.ListDocumentsResponse:
    request = s.ListDocumentsRequest(**names, page_size=1)
    return await invoke(connection, LIST_DOCUMENTS, request, s.ListDocumentsResponse)


async def report_half(connection: Connection, work: Work) -> None:
    """Report the first stages of all documents, and leave the batch open."""
    requests = list(work.by_stage(min(100, len(work.document_ids))))
    for request in requests[: len(requests) // 2]:
        await call(connection, REPORT, request)


def check_applied(work: Work, answers: Sequence[bytes], reports: int) -> None:
    """Check that each report has made its transition."""
    revision = max(pb.ReportResponse.FromString(answer).revision for answer in answers)
    if revision != work.revision + reports:
        raise AssertionError(f"{reports} reports led from {work.revision} to {revision}")
