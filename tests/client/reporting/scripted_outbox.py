"""An outbox whose calls are answered by hand, without a server."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

from stagecast.client.records import NewDocument
from stagecast.client.reporting.jobs import (
    Job,
)
from stagecast.client.reporting.options import BatchOptions
from stagecast.client.reporting.outbox import Outbox
from stagecast.client.reporting.queues import (
    BatchQueue,
    DocumentQueue,
    Entry,
    Mode,
    Takeover,
)
from stagecast.errors import (
    DocumentTaken,
)
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s

J = TypeVar("J", bound=Job)

STAGES = (r.STAGE_PARSING, r.STAGE_SPLITTING, r.STAGE_INDEXING)


class Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Scripted:
    """An outbox whose calls are answered by hand.

    Attributes:
        sent: the requests of all calls, in their order.
    """

    def __init__(self, *documents: str, limit: int | None = None, mode: Mode = Mode.CREATE) -> None:
        self.time = Time()
        self.outbox = Outbox(limit=limit, now=self.time)
        self.batch = BatchQueue(BatchOptions(dataset_id="d", batch_id="b"), mode)
        self.batch.submitted = True
        self.sent: list[Any] = []
        self.outbox.open(self.batch)
        self.outbox.register(self.batch, [NewDocument(document_id=each) for each in documents])

    def document(
        self, name: str = "a", takeover: Takeover = Takeover.OPEN_OR_FAILED
    ) -> DocumentQueue:
        """Return a document that was started and has its heartbeats."""
        document = DocumentQueue(self.batch, name, "worker")
        self.outbox.work_on(document)
        self.outbox.start(document, takeover)
        return document

    def stage(self, document: DocumentQueue, *stages: r.Stage.ValueType) -> None:
        """Report stages."""
        for stage in stages:
            self.outbox.put(document, Entry(time_ns=1, stage=stage))

    def count(self, document: DocumentQueue, completed: int, **fields: Any) -> None:
        """Report counters."""
        self.outbox.put(document, Entry(time_ns=1, completed=completed, **fields))

    def run(self, **errors: Any) -> list[Any]:
        """Answer all calls of a round, by the names of their jobs with errors; return requests."""
        before = len(self.sent)
        self.outbox.begin_round()
        while (job := self.outbox.next_job()) is not None:
            self.answer(job, errors.get(type(job).__name__))
        return self.sent[before:]

    def run_until(self, kind: type[J]) -> J:
        """Answer the calls of a round up to a job of one kind, and return that."""
        self.outbox.begin_round()
        while not isinstance(job := self.outbox.next_job(), kind):
            assert job is not None
            self.answer(job)
        return job

    def answer(self, job: Job, error: Any = None) -> None:
        """Answer the calls of a job."""
        applied = []
        for index, call in enumerate(job.calls()):
            self.sent.append(call.request)
            if error is not None:
                applied.append(partial(job.refused, index, error))
            else:
                applied.append(partial(job.answered, index, answer_of(call.request)))
        self.outbox.take(applied, answering=True)


def answer_of(request: Any) -> Any:
    """Return the answer of a server that takes everything."""
    match request:
        case pb.CreateBatchRequest():
            return pb.CreateBatchResponse(batch=r.Batch(revision=1))
        case pb.AddDocumentsRequest():
            return pb.AddDocumentsResponse(batch=r.Batch(revision=2))
        case pb.StartAttemptRequest():
            return pb.StartAttemptResponse(attempt=3)
        case pb.ReportRequest():
            applied = pb.ReportResult(outcome=pb.REPORT_OUTCOME_APPLIED)
            return pb.ReportResponse(results=[applied] * len(request.reports), revision=5)
        case pb.HeartbeatRequest():
            order = pb.DocumentOrder(order=pb.WORKER_ORDER_GO_ON)
            return pb.HeartbeatResponse(orders=[order] * len(request.documents))
        case s.ListDocumentsRequest():
            return s.ListDocumentsResponse()
        case _:
            return pb.SealBatchResponse(batch=r.Batch(sealed=True))


def reports_of(requests: list[Any]) -> list[pb.DocumentReport]:
    """Return the reports of requests."""
    return [
        report for each in requests if isinstance(each, pb.ReportRequest) for report in each.reports
    ]


def refusal(state: str, attempt: int = 1) -> DocumentTaken:
    return DocumentTaken("it is not pending", state=state, attempt=attempt)
