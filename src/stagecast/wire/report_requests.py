"""Requests of `ReportService`: protobuf to the model, validated field by field.

Every function raises `FieldInvalid` for the first invalid field.
"""

from __future__ import annotations

from collections.abc import Sequence

from stagecast.errors import FieldInvalid
from stagecast.escaping import quote
from stagecast.model import (
    LOST,
    SECOND_US,
    DocumentError,
    HeartbeatItem,
    InvalidReport,
    NewBatch,
    NewDocument,
    Progress,
    Report,
    Stage,
    Step,
)
from stagecast.v1 import report_service_pb2, resources_pb2
from stagecast.wire import checks, names

_MAX_DOCUMENTS = 10_000
_MAX_REPORTS = 1_000
_MAX_MESSAGE = 4_096  # characters of an error message
_MAX_SEGMENTS = 2**31 - 1  # so that the sum over a batch fits 64 bits
_MAX_ID_BYTES = 3 << 20  # of all documents of a call: the response repeats them
_DEFAULT_STALL_AFTER_US = 300 * SECOND_US
_YEAR_S = 365 * 86_400


def new_batch(request: report_service_pb2.CreateBatchRequest) -> NewBatch:
    """Return the batch to create."""
    return NewBatch(
        dataset_id=names.dataset_id(request),
        dataset_name=checks.text(
            "dataset_name", request.dataset_name, min_length=0, max_length=256
        ),
        batch_id=checks.batch_id(request.batch_id) if request.batch_id else "",
        documents=new_documents(request.documents),
        labels=checks.labels("labels", request.labels),
        more_documents_follow=request.more_documents_follow,
        start_after_us=_timeout(request, "start_after", 0),
        stall_after_us=_timeout(request, "stall_after", _DEFAULT_STALL_AFTER_US),
        fail_after_us=_timeout(request, "fail_after", 0),
        seal_after_us=_timeout(request, "seal_after", 0),
        request_id=checks.text("request_id", request.request_id, min_length=0, max_length=128),
    )


def new_documents(documents: Sequence[report_service_pb2.NewDocument]) -> list[NewDocument]:
    """Return the documents to register; an id occurs once."""
    checks.count("documents", len(documents), minimum=0, maximum=_MAX_DOCUMENTS)
    if sum(len(new.document_id.encode()) for new in documents) > _MAX_ID_BYTES:
        raise FieldInvalid("documents", f"ids must have at most {_MAX_ID_BYTES} bytes in all")
    ids: set[str] = set()

    def register(new: report_service_pb2.NewDocument) -> NewDocument:
        document_id = checks.text("document_id", new.document_id, min_length=0, max_length=256)
        if document_id in ids:
            raise FieldInvalid("document_id", f"occurs twice: {quote(document_id)}")
        if document_id:
            ids.add(document_id)
        return NewDocument(
            document_id=document_id,
            display_name=checks.text(
                "display_name", new.display_name, min_length=0, max_length=256
            ),
            labels=checks.labels("labels", new.labels),
        )

    return checks.each("documents", register, documents)


def worker(request: report_service_pb2.StartAttemptRequest) -> str:
    """Return the worker that starts a document."""
    return checks.text("worker", request.worker, min_length=1, max_length=256)


def reports(request: report_service_pb2.ReportRequest) -> list[Report]:
    """Return the reports of a call."""
    checks.count("reports", len(request.reports), minimum=1, maximum=_MAX_REPORTS)
    return checks.each("reports", _report, request.reports)


def partial_reports(
    request: report_service_pb2.ReportRequest,
) -> list[Report | InvalidReport]:
    """Return the reports of a call with `allow_partial`, each valid or not.

    Raises:
        FieldInvalid: their number is invalid.
    """
    checks.count("reports", len(request.reports), minimum=1, maximum=_MAX_REPORTS)
    return [_report_or_error(report) for report in request.reports]


def heartbeats(request: report_service_pb2.HeartbeatRequest) -> list[HeartbeatItem]:
    """Return the heartbeats of a call."""
    checks.count("documents", len(request.documents), minimum=1, maximum=_MAX_REPORTS)
    return checks.each("documents", _heartbeat, request.documents)


def _timeout(request: report_service_pb2.CreateBatchRequest, field: str, default: int) -> int:
    if not request.HasField(field):  # type: ignore[arg-type]  # one of two literals
        return default
    return checks.span_us(field, getattr(request, field), min_s=1, max_s=_YEAR_S, zero=True)


def _heartbeat(message: report_service_pb2.HeartbeatDocument) -> HeartbeatItem:
    return HeartbeatItem(
        document_id=checks.document_id("document_id", message.document_id),
        attempt=_attempt(message.attempt),
    )


def _attempt(value: int) -> int:
    if value < 0:
        raise FieldInvalid("attempt", "must be 0 or more")
    return value


def _report_or_error(message: report_service_pb2.DocumentReport) -> Report | InvalidReport:
    try:
        return _report(message)
    except FieldInvalid as error:
        named = error.field != "document_id"
        return InvalidReport(document_id=message.document_id if named else "", error=error)


def _report(message: report_service_pb2.DocumentReport) -> Report:
    document_id = checks.document_id("document_id", message.document_id)
    attempt = _attempt(message.attempt)
    stage = checks.member("stage", Stage, message.stage) if message.stage else None
    progress = _progress(message.progress) if message.HasField("progress") else None
    error = _error(message.error) if message.HasField("error") else None
    if stage is None and progress is None and error is None:
        raise FieldInvalid("", "must have a stage, progress or an error")
    if stage is Stage.COMPLETED and error is not None:
        raise FieldInvalid("error", "must not be set together with STAGE_COMPLETED")
    event_at = None
    if message.HasField("event_time"):
        event_at = checks.moment_us("event_time", message.event_time)
    return Report(
        document_id=document_id,
        attempt=attempt,
        stage=stage,
        progress=progress,
        error=error,
        event_at=event_at,
    )


def _progress(message: resources_pb2.Progress) -> Progress:
    total = message.total_segments if message.HasField("total_segments") else None
    _check_counters("progress.{}_segments", message.completed_segments, total)
    step = _step(message.step) if message.HasField("step") else None
    return Progress(completed_segments=message.completed_segments, total_segments=total, step=step)


def _step(message: resources_pb2.Step) -> Step:
    name = checks.text("progress.step.name", message.name, min_length=1, max_length=64)
    total = message.total if message.HasField("total") else None
    _check_counters("progress.step.{}", message.completed, total)
    return Step(name=name, completed=message.completed, total=total)


def _check_counters(fields: str, completed: int, total: int | None) -> None:
    """Check `completed` and `total` in fields with a path for both."""
    for name, value in (("completed", completed), ("total", total)):
        if value is not None and not 0 <= value <= _MAX_SEGMENTS:
            raise FieldInvalid(fields.format(name), f"must be 0 to {_MAX_SEGMENTS}")
    if total is not None and completed > total:
        raise FieldInvalid(
            fields.format("completed"), f"{completed} is more than the total of {total}"
        )


def _error(message: resources_pb2.DocumentError) -> DocumentError:
    if len(message.message) > _MAX_MESSAGE:
        raise FieldInvalid(
            "error.message",
            f"must have at most {_MAX_MESSAGE} characters, has {len(message.message)}",
        )
    if message.reason == LOST.reason:
        raise FieldInvalid("error.reason", f"{LOST.reason} is reserved for stagecast itself")
    return DocumentError(
        reason=checks.reason("error.reason", message.reason), message=message.message
    )
