"""`stagecast.v1.ControlService`, for operators."""

from __future__ import annotations

from stagecast import wire
from stagecast.rpc.authentication import visible
from stagecast.rpc.running_calls import Context
from stagecast.service.controls import Controls
from stagecast.v1 import control_service_pb2 as pb
from stagecast.v1 import control_service_pb2_grpc


class ControlServicer(control_service_pb2_grpc.ControlServiceServicer):
    """Converts requests and responses of `Controls`."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    async def Pause(  # noqa: N802 - the proto's name
        self, request: pb.PauseRequest, context: Context
    ) -> pb.PauseResponse:
        """Hold documents."""
        done = await self._controls.pause(*wire.batch_or_document_name(request), visible=visible())
        return pb.PauseResponse(batch=wire.to_batch(done.batch), changed_documents=done.changed)

    async def Resume(  # noqa: N802 - the proto's name
        self, request: pb.ResumeRequest, context: Context
    ) -> pb.ResumeResponse:
        """Release documents."""
        done = await self._controls.resume(*wire.batch_or_document_name(request), visible=visible())
        return pb.ResumeResponse(batch=wire.to_batch(done.batch), changed_documents=done.changed)

    async def Stop(  # noqa: N802 - the proto's name
        self, request: pb.StopRequest, context: Context
    ) -> pb.StopResponse:
        """End documents."""
        done = await self._controls.stop(*wire.batch_or_document_name(request), visible=visible())
        return pb.StopResponse(batch=wire.to_batch(done.batch), changed_documents=done.changed)

    async def Retry(  # noqa: N802 - the proto's name
        self, request: pb.RetryRequest, context: Context
    ) -> pb.RetryResponse:
        """Give documents another attempt."""
        done = await self._controls.retry(*wire.batch_or_document_name(request), visible=visible())
        return pb.RetryResponse(batch=wire.to_batch(done.batch), changed_documents=done.changed)

    async def DeleteBatch(  # noqa: N802 - the proto's name
        self, request: pb.DeleteBatchRequest, context: Context
    ) -> pb.DeleteBatchResponse:
        """Delete a batch."""
        await self._controls.delete_batch(*wire.batch_name(request), visible=visible())
        return pb.DeleteBatchResponse()

    async def DeleteDataset(  # noqa: N802 - the proto's name
        self, request: pb.DeleteDatasetRequest, context: Context
    ) -> pb.DeleteDatasetResponse:
        """Delete a dataset."""
        await self._controls.delete_dataset(wire.dataset_id(request), visible=visible())
        return pb.DeleteDatasetResponse()
