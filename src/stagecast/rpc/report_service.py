"""`stagecast.v1.ReportService`, for submitters and workers."""

from __future__ import annotations

from stagecast import wire
from stagecast.rpc.authentication import visible
from stagecast.rpc.running_calls import Context
from stagecast.service.heartbeats import Heartbeats
from stagecast.service.reports import Reports
from stagecast.service.submissions import Submissions
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import report_service_pb2_grpc


class ReportServicer(report_service_pb2_grpc.ReportServiceServicer):
    """Converts requests and responses of submissions, reports and heartbeats."""

    def __init__(self, submissions: Submissions, reports: Reports, heartbeats: Heartbeats) -> None:
        self._submissions = submissions
        self._reports = reports
        self._heartbeats = heartbeats

    async def CreateBatch(  # noqa: N802 - the proto's name
        self, request: pb.CreateBatchRequest, context: Context
    ) -> pb.CreateBatchResponse:
        """Create a batch."""
        submitted = await self._submissions.create_batch(wire.new_batch(request), visible=visible())
        return pb.CreateBatchResponse(
            batch=wire.to_batch(submitted.batch), document_ids=submitted.document_ids
        )

    async def AddDocuments(  # noqa: N802 - the proto's name
        self, request: pb.AddDocumentsRequest, context: Context
    ) -> pb.AddDocumentsResponse:
        """Register more documents."""
        submitted = await self._submissions.add_documents(
            *wire.batch_name(request), wire.new_documents(request.documents), visible=visible()
        )
        return pb.AddDocumentsResponse(
            batch=wire.to_batch(submitted.batch), document_ids=submitted.document_ids
        )

    async def SealBatch(  # noqa: N802 - the proto's name
        self, request: pb.SealBatchRequest, context: Context
    ) -> pb.SealBatchResponse:
        """Declare that no more documents follow."""
        batch = await self._submissions.seal_batch(*wire.batch_name(request), visible=visible())
        return pb.SealBatchResponse(batch=wire.to_batch(batch))

    async def StartAttempt(  # noqa: N802 - the proto's name
        self, request: pb.StartAttemptRequest, context: Context
    ) -> pb.StartAttemptResponse:
        """Take a document for a worker."""
        document = await self._reports.start_attempt(
            *wire.document_name(request),
            wire.worker(request),
            only_if_pending=request.only_if_pending,
            visible=visible(),
        )
        return pb.StartAttemptResponse(
            attempt=document.attempt, document=wire.to_document(document)
        )

    async def Report(  # noqa: N802 - the proto's name
        self, request: pb.ReportRequest, context: Context
    ) -> pb.ReportResponse:
        """Record reports."""
        name = wire.batch_name(request)
        if request.allow_partial:
            reports = wire.partial_reports(request)
            reported = await self._reports.report_partially(*name, reports, visible=visible())
        else:
            reported = await self._reports.report(*name, wire.reports(request), visible=visible())
        response = pb.ReportResponse(revision=reported.revision)
        for result in reported.results:  # in place: a list of messages would be copied
            added = response.results.add(
                document_id=result.document_id,
                outcome=pb.ReportOutcome.ValueType(result.outcome),
                revision=result.revision,
            )
            if result.refusal is not None:
                added.refusal.reason = result.refusal.reason
                added.refusal.message = str(result.refusal)
        return response

    async def Heartbeat(  # noqa: N802 - the proto's name
        self, request: pb.HeartbeatRequest, context: Context
    ) -> pb.HeartbeatResponse:
        """Keep documents from stalling."""
        orders = await self._heartbeats.record(
            *wire.batch_name(request), wire.heartbeats(request), visible=visible()
        )
        response = pb.HeartbeatResponse()
        for document, order in zip(request.documents, orders, strict=True):
            response.orders.add(
                document_id=document.document_id, order=pb.WorkerOrder.ValueType(order)
            )
        return response
