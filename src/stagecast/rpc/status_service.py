"""`stagecast.v1.StatusService`: what readers call."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from stagecast import wire
from stagecast.model import Document
from stagecast.queries import Queries
from stagecast.rpc.errors import Context
from stagecast.v1 import status_service_pb2 as pb
from stagecast.v1 import status_service_pb2_grpc
from stagecast.watches import SnapshotPart, Watches, WatchMessage


class StatusServicer(status_service_pb2_grpc.StatusServiceServicer):
    """Unpacks requests, asks `Queries` and `Watches`, and packs answers."""

    def __init__(self, queries: Queries, watches: Watches) -> None:
        self._queries = queries
        self._watches = watches

    async def GetDataset(  # noqa: N802 - the proto's name
        self, request: pb.GetDatasetRequest, context: Context
    ) -> pb.GetDatasetResponse:
        """Return a dataset."""
        dataset = await self._queries.get_dataset(wire.dataset_id(request))
        return pb.GetDatasetResponse(dataset=wire.to_dataset(dataset))

    async def GetBatch(  # noqa: N802 - the proto's name
        self, request: pb.GetBatchRequest, context: Context
    ) -> pb.GetBatchResponse:
        """Return a batch."""
        batch = await self._queries.get_batch(*wire.batch_name(request))
        return pb.GetBatchResponse(batch=wire.to_batch(batch))

    async def GetDocument(  # noqa: N802 - the proto's name
        self, request: pb.GetDocumentRequest, context: Context
    ) -> pb.GetDocumentResponse:
        """Return a document."""
        document = await self._queries.get_document(*wire.document_name(request))
        return pb.GetDocumentResponse(document=wire.to_document(document))

    async def ListDocuments(  # noqa: N802 - the proto's name
        self, request: pb.ListDocumentsRequest, context: Context
    ) -> pb.ListDocumentsResponse:
        """Return a page of a batch's documents."""
        page = await self._queries.list_documents(wire.document_query(request))
        return pb.ListDocumentsResponse(
            documents=map(wire.to_document, page.documents),
            next_page_token=page.next_page_token,
            revision=page.revision,
            resume_token=page.resume_token,
        )

    async def WatchBatch(  # noqa: N802 - the proto's name
        self, request: pb.WatchBatchRequest, context: Context
    ) -> AsyncGenerator[pb.WatchBatchResponse]:
        """Send every transition of a batch."""

        async def tell_begun() -> None:
            await context.send_initial_metadata(())

        messages = self._watches.watch(wire.watch_request(request), on_begun=tell_begun)
        # Closed here and now if the call is cancelled, not when garbage is collected.
        async with contextlib.aclosing(messages):
            async for message in messages:
                yield _watch_response(message)


def _watch_response(message: WatchMessage) -> pb.WatchBatchResponse:
    return pb.WatchBatchResponse(
        snapshot=_snapshot(message.snapshot) if message.snapshot else None,
        transitions=map(wire.to_transition, message.transitions),
        progress=map(_progress, message.progress),
        batch=wire.to_batch(message.batch) if message.batch else None,
        revision=message.revision,
        resume_token=message.resume_token,
        server_time=wire.to_timestamp(message.server_at),
    )


def _snapshot(part: SnapshotPart) -> pb.Snapshot:
    return pb.Snapshot(
        reason=pb.SnapshotReason.ValueType(part.reason),
        documents=map(wire.to_document, part.documents),
        complete=part.complete,
    )


def _progress(document: Document) -> pb.DocumentProgress:
    return pb.DocumentProgress(
        document_id=document.document_id,
        attempt=document.attempt,
        progress=wire.to_progress(document.progress),
    )
