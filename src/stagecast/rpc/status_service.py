"""`stagecast.v1.StatusService`, for readers."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import Any

from stagecast import wire
from stagecast.rpc.authentication import admitted_call, visible
from stagecast.rpc.running_calls import Context, RunningCall
from stagecast.rpc.stream_writer import StreamWriter
from stagecast.service.queries import Queries
from stagecast.v1 import status_service_pb2 as pb
from stagecast.v1 import status_service_pb2_grpc
from stagecast.watches import BatchWatches, DatasetWatches, Waits


class StatusServicer(status_service_pb2_grpc.StatusServiceServicer):
    """Converts requests and responses of queries, watches and waits.

    A watch writes its messages by itself, encoded once for all.
    """

    def __init__(
        self,
        queries: Queries,
        batch_watches: BatchWatches,
        dataset_watches: DatasetWatches,
        waits: Waits,
        writer: StreamWriter,
    ) -> None:
        self._queries = queries
        self._batch_watches = batch_watches
        self._dataset_watches = dataset_watches
        self._waits = waits
        self._writer = writer

    async def GetDataset(  # type: ignore[override]  # noqa: N802 - encoded already; the proto's name
        self, request: pb.GetDatasetRequest, context: Context
    ) -> bytes:
        """Return a dataset."""
        return await self._queries.get_dataset(
            wire.dataset_id(request), wire.encode_dataset, visible=visible()
        )

    async def ListDatasets(  # noqa: N802 - the proto's name
        self, request: pb.ListDatasetsRequest, context: Context
    ) -> pb.ListDatasetsResponse:
        """Return a page of datasets."""
        page = await self._queries.list_datasets(wire.dataset_query(request), visible=visible())
        return pb.ListDatasetsResponse(
            datasets=map(wire.to_dataset, page.items), next_page_token=page.next_page_token
        )

    async def GetBatch(  # type: ignore[override]  # noqa: N802 - encoded already; the proto's name
        self, request: pb.GetBatchRequest, context: Context
    ) -> bytes:
        """Return a batch."""
        return await self._queries.get_batch(
            wire.batch_name(request), wire.encode_batch, visible=visible()
        )

    async def ListBatches(  # noqa: N802 - the proto's name
        self, request: pb.ListBatchesRequest, context: Context
    ) -> pb.ListBatchesResponse:
        """Return a page of batches."""
        page = await self._queries.list_batches(wire.batch_query(request), visible=visible())
        return pb.ListBatchesResponse(
            batches=map(wire.to_batch, page.items), next_page_token=page.next_page_token
        )

    async def GetDocument(  # type: ignore[override]  # noqa: N802 - encoded already; the proto's name
        self, request: pb.GetDocumentRequest, context: Context
    ) -> bytes:
        """Return a document."""
        name = wire.document_name(request)
        encode = partial(wire.encode_document, name[:2])
        return await self._queries.get_document(name, encode, visible=visible())

    async def ListDocuments(  # type: ignore[override]  # noqa: N802 - encoded already; the proto's name
        self, request: pb.ListDocumentsRequest, context: Context
    ) -> bytes:
        """Return a page of a batch's documents."""
        query = wire.document_query(request)
        encode = partial(wire.encode_documents, (query.dataset_id, query.batch_id))
        page = await self._queries.list_documents(query, encode, visible=visible())
        rest = pb.ListDocumentsResponse(
            next_page_token=page.next_page_token,
            revision=page.revision,
            resume_token=page.resume_token,
        )
        return page.documents + rest.SerializeToString()

    async def ListTransitions(  # type: ignore[override]  # noqa: N802 - encoded already; the proto's name
        self, request: pb.ListTransitionsRequest, context: Context
    ) -> bytes:
        """Return a page of history."""
        query = wire.transition_query(request)
        encode = partial(wire.encode_transitions, (query.dataset_id, query.batch_id))
        page = await self._queries.list_transitions(query, encode, visible=visible())
        rest = pb.ListTransitionsResponse(next_page_token=page.next_page_token)
        return page.items + rest.SerializeToString()

    async def WaitBatch(  # noqa: N802 - the proto's name
        self, request: pb.WaitBatchRequest, context: Context
    ) -> pb.WaitBatchResponse:
        """Answer when the batch is terminal, or after the timeout."""
        batch, done = await self._waits.wait(
            *wire.batch_name(request),
            wire.wait_timeout_s(request),
            remaining_s=context.time_remaining(),
            caller=admitted_call().caller,
        )
        return pb.WaitBatchResponse(batch=wire.to_batch(batch), done=done)

    def WatchBatch(  # type: ignore[override]  # noqa: N802 - writes by itself; the proto's name
        self, request: pb.WatchBatchRequest, context: Context
    ) -> Coroutine[Any, Any, None]:
        """Send every transition of a batch."""
        return self._batch_watches.watch(wire.watch_request(request), self._receiver())

    def WatchDatasets(  # type: ignore[override]  # noqa: N802 - writes by itself; the proto's name
        self, request: pb.WatchDatasetsRequest, context: Context
    ) -> Coroutine[Any, Any, None]:
        """Send all datasets, then each that changes."""
        query = wire.datasets_watch_request(request)
        return self._dataset_watches.watch(query, self._receiver())

    def _receiver(self) -> _Receiver:
        return _Receiver(admitted_call(), self._writer)


class _Receiver:
    """The client of a watch, by its call."""

    __slots__ = ("_call", "_writer", "caller")

    def __init__(self, call: RunningCall, writer: StreamWriter) -> None:
        self.caller = call.caller
        self._call = call
        self._writer = writer

    def begin(self) -> Awaitable[None]:
        """Write the headers."""
        return self._writer.begin(self._call)

    def send(self, message: bytes) -> Awaitable[None]:
        """Write a message."""
        return self._writer.write(self._call, message)
