"""The calls that a reporter makes, and what their answers change in the queues.

A job changes nothing when it is made: so a call that failed is made again by a new job. `answered`
and `refused` run under the lock of the outbox.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.message import Message

from stagecast.client.arguments import duration_of
from stagecast.client.records import NewDocument
from stagecast.client.reporting.queues import BatchQueue, DocumentQueue, Entry, Mode
from stagecast.errors import StagecastError
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s

if TYPE_CHECKING:
    from stagecast.client.reporting.outbox import Outbox

MAX_REPORTS = 500
_MAX_BYTES = 1 << 20  # a server takes 4 MiB
_MAX_DOCUMENTS = 1_000
_MAX_STARTS = 50
_PAGE = 1_000
_RETRY_S = 0.5  # until the next try to find a batch that does not exist yet
_MISSING_S = 60.0  # after which it is given up


class Call(NamedTuple):
    """A call to make."""

    rpc: str
    request: Message
    response: Callable[[bytes], Any]


class Job(ABC):
    """Calls that are made at the same time."""

    def __init__(self, outbox: Outbox, batch: BatchQueue) -> None:
        self.outbox = outbox
        self.batch = batch

    @abstractmethod
    def calls(self) -> Sequence[Call]:
        """Return the calls."""

    @abstractmethod
    def answered(self, index: int, response: Any) -> None:  # noqa: ANN401 - of the call
        """Take the answer to a call."""

    @abstractmethod
    def refused(self, index: int, error: StagecastError) -> None:
        """Take an error that would come again."""

    def failed(self) -> None:  # noqa: B027 - most jobs have nothing to take back
        """Take a call that failed because the server is away: the job is made anew later."""

    @property
    def _ids(self) -> dict[str, Any]:
        return {
            "dataset_id": self.batch.options.dataset_id,
            "batch_id": self.batch.options.batch_id,
        }

    def _lose_batch(self, error: StagecastError) -> None:
        """Give up the batch."""
        self.outbox.lose(self.batch, str(error))


class Open(Job):
    """Creates the batch, or asks whether it exists."""

    def calls(self) -> Sequence[Call]:
        if self.batch.mode is not Mode.CREATE:
            # Needs no other scope than reports do.
            request: Message = pb.AddDocumentsRequest(**self._ids)
            return [Call("ReportService/AddDocuments", request, pb.AddDocumentsResponse.FromString)]
        options = self.batch.options
        request = pb.CreateBatchRequest(
            **self._ids,
            dataset_name=options.dataset_name,
            labels=options.labels,
            more_documents_follow=True,
            start_after=duration_of("start_after", options.start_after_s),
            stall_after=duration_of("stall_after", options.stall_after_s),
            fail_after=duration_of("fail_after", options.fail_after_s),
            seal_after=duration_of("seal_after", options.seal_after_s),
        )
        return [Call("ReportService/CreateBatch", request, pb.CreateBatchResponse.FromString)]

    def answered(self, index: int, response: Any) -> None:  # noqa: ANN401 - of two RPCs
        batch, actual = self.batch, response.batch
        batch.opened = True
        batch.revision = actual.revision
        is_new = batch.mode is Mode.CREATE and actual.revision == 1
        batch.created = batch.created or is_new
        if not batch.created and batch.submitted:
            batch.survey = ""
        stall_after_s = actual.stall_after.ToTimedelta().total_seconds()
        if stall_after_s:
            batch.heartbeat_s = min(batch.heartbeat_s, stall_after_s / 3)
        batch.seal &= batch.created or batch.submitted
        self.outbox.done(batch.number, created=batch.created)

    def refused(self, index: int, error: StagecastError) -> None:
        batch = self.batch
        if error.reason == "BATCH_EXISTS":
            batch.mode = Mode.ATTACH
        elif error.reason in ("BATCH_NOT_FOUND", "DATASET_NOT_FOUND"):
            self._missing(error)
        else:
            self._lose_batch(error)

    def _missing(self, error: StagecastError) -> None:
        batch, now = self.batch, self.outbox.now()
        if batch.mode is Mode.CREATE:
            return self._lose_batch(error)
        if batch.mode is Mode.JOIN and (batch.unregistered or batch.waiting):
            batch.mode = Mode.CREATE
            return None
        if batch.missing_since is None:
            batch.missing_since = now
        if now - batch.missing_since > _MISSING_S:
            return self._lose_batch(error)
        batch.retry_at = now + _RETRY_S
        return None


class Survey(Job):
    """Reads the documents of an earlier run, page by page."""

    def calls(self) -> Sequence[Call]:
        request = s.ListDocumentsRequest(
            **self._ids, page_size=_PAGE, page_token=self.batch.survey or ""
        )
        return [Call("StatusService/ListDocuments", request, s.ListDocumentsResponse.FromString)]

    def answered(self, index: int, response: s.ListDocumentsResponse) -> None:
        batch = self.batch
        for document in response.documents:
            batch.listed[document.document_id] = None
            if document.state == r.DOCUMENT_STATE_SUCCEEDED:
                batch.succeeded.add(document.document_id)
            elif document.state not in (r.DOCUMENT_STATE_PENDING, r.DOCUMENT_STATE_PAUSED):
                batch.left_behind.add(document.document_id)
        batch.survey = response.next_page_token or None

    def refused(self, index: int, error: StagecastError) -> None:
        self.batch.survey = None  # such as for a key that may only report


class Register(Job):
    """Registers documents."""

    def __init__(self, outbox: Outbox, batch: BatchQueue) -> None:
        super().__init__(outbox, batch)
        many = 1 if batch.one_by_one else _MAX_DOCUMENTS
        self._entries = list(itertools.islice(batch.unregistered, many))
        self._request = pb.AddDocumentsRequest(**self._ids)
        size = 0
        for new, _ in self._entries:
            message = pb.NewDocument(
                document_id=new.document_id, display_name=new.display_name, labels=new.labels
            )
            size += message.ByteSize()
            if size > _MAX_BYTES and self._request.documents:
                break
            self._request.documents.append(message)
        del self._entries[len(self._request.documents) :]

    def calls(self) -> Sequence[Call]:
        response = pb.AddDocumentsResponse.FromString
        return [Call("ReportService/AddDocuments", self._request, response)]

    def answered(self, index: int, response: pb.AddDocumentsResponse) -> None:
        self.batch.revision = response.batch.revision
        self._registered(self._entries)

    def refused(self, index: int, error: StagecastError) -> None:
        single = len(self._entries) == 1
        if error.reason == "BATCH_SEALED" or (error.reason == "DOCUMENT_EXISTS" and single):
            self._registered(self._entries)  # the start of each will tell whether it exists
        elif error.reason in ("BATCH_NOT_FOUND", "DATASET_NOT_FOUND") or single:
            self._refuse_all(error)
        else:
            self.batch.one_by_one = True  # whichever of them it is

    def _registered(self, entries: list[tuple[NewDocument, int]]) -> None:
        for _, number in entries:
            self.batch.unregistered.popleft()
            self.outbox.done(number)
        self.batch.one_by_one &= bool(self.batch.unregistered)

    def _refuse_all(self, error: StagecastError) -> None:
        if error.reason in ("BATCH_NOT_FOUND", "DATASET_NOT_FOUND"):
            return self._lose_batch(error)
        refused = {new.document_id for new, _ in self._entries}
        for document in [*self.batch.documents]:
            if document.document_id in refused:
                self.outbox.refuse(document, str(error))
        return self._registered(self._entries)


class StartAttempts(Job):
    """Starts attempts at documents."""

    def __init__(self, outbox: Outbox, batch: BatchQueue) -> None:
        super().__init__(outbox, batch)
        self._documents = list(itertools.islice(batch.starting, _MAX_STARTS))

    def calls(self) -> Sequence[Call]:
        return [
            Call(
                "ReportService/StartAttempt",
                pb.StartAttemptRequest(
                    **self._ids,
                    document_id=document.document_id,
                    worker=document.worker,
                    only_if_pending=document.start is None or document.start.only_if_pending,
                ),
                pb.StartAttemptResponse.FromString,
            )
            for document in self._documents
        ]

    def answered(self, index: int, response: pb.StartAttemptResponse) -> None:
        document = self._documents[index]
        number = document.start.number if document.start else 0
        document.start = None
        document.attempt = response.attempt
        document.paused = response.document.state == r.DOCUMENT_STATE_PAUSED
        self._remove(document)
        if document.entries:
            self.batch.reporting[document] = None
        self.outbox.done(number, attempt=response.attempt)

    def refused(self, index: int, error: StagecastError) -> None:
        document = self._documents[index]
        if error.reason == "DOCUMENT_TAKEN" and document.start is not None:
            state = error.metadata.get("state", "")
            self._not_pending(document, state, error.metadata.get("attempt", ""))
        elif error.reason in ("BATCH_NOT_FOUND", "DATASET_NOT_FOUND"):
            self._lose_batch(error)
        else:
            self._remove(document)
            self.outbox.refuse(document, str(error))

    def failed(self) -> None:
        for document in self._documents:
            if document.start is not None:
                document.start.go_offline()

    def _not_pending(self, document: DocumentQueue, state: str, attempt: str) -> None:
        start = document.start
        if start is None:
            return
        own = attempt == str(self.batch.failed.get(document.document_id))
        if state == "PAUSED":
            document.paused = True
            self.batch.active[document] = None
            self._remove(document)  # the answers to heartbeats tell when it goes on
        elif start.may_take(state, own=own):
            start.confirmed = True
        else:
            self._remove(document)
            self.outbox.stop(document, _REASONS.get(state, "another worker has it"))

    def _remove(self, document: DocumentQueue) -> None:
        self.batch.starting.pop(document, None)


class Report(Job):
    """Sends reports on documents whose attempt is known."""

    def __init__(self, outbox: Outbox, batch: BatchQueue) -> None:
        super().__init__(outbox, batch)
        self._request = pb.ReportRequest(**self._ids, allow_partial=True)
        self._entries: list[tuple[DocumentQueue, Entry]] = []
        self._cut: DocumentQueue | None = None  # of which not all reports have room
        size = 0
        for document, entry in self._waiting():
            message = entry.message(document.document_id, document.attempt)
            size += message.ByteSize()
            if self._entries and (size > _MAX_BYTES or len(self._entries) == MAX_REPORTS):
                self._cut = document
                break
            self._request.reports.append(message)
            self._entries.append((document, entry))
            document.sending += 1

    def calls(self) -> Sequence[Call]:
        return [Call("ReportService/Report", self._request, pb.ReportResponse.FromString)]

    def answered(self, index: int, response: pb.ReportResponse) -> None:
        for (document, entry), result in zip(self._entries, response.results, strict=True):
            self._sent(document)
            if result.outcome == pb.REPORT_OUTCOME_REFUSED:
                self._refused(document, entry, result.refusal)
            else:
                self.batch.delivered += 1
                if entry.error is not None:
                    self.batch.failed[document.document_id] = document.attempt
            self.outbox.done(entry.number)
        self.batch.revision = response.revision
        self._finish()

    def refused(self, index: int, error: StagecastError) -> None:
        if error.reason in ("BATCH_NOT_FOUND", "DATASET_NOT_FOUND"):
            self.failed()
            return self._lose_batch(error)
        for document, entry in self._entries:
            self._sent(document)
            self.outbox.undelivered(self.batch, str(error))
            self.outbox.done(entry.number)
        return self._finish()

    def failed(self) -> None:
        for document, _ in self._entries:
            document.sending = 0

    def _waiting(self) -> Iterator[tuple[DocumentQueue, Entry]]:
        for document in self.batch.reporting:
            for entry in document.entries:
                yield document, entry

    def _sent(self, document: DocumentQueue) -> None:
        if document.sending:  # else it was given up meanwhile
            document.entries.popleft()
            document.sending -= 1
            self.batch.waiting -= 1

    def _refused(self, document: DocumentQueue, entry: Entry, why: pb.ReportRefusal) -> None:
        if why.reason in ("ILLEGAL_TRANSITION", "STALE_ATTEMPT"):
            self.batch.refused += 1
            self.outbox.stop(document, why.message)
        else:
            self.outbox.undelivered(self.batch, why.message)

    def _finish(self) -> None:
        for document in dict.fromkeys(document for document, _ in self._entries):
            if document is not self._cut:
                # What was added meanwhile waits for the next round, which other documents are in.
                self.batch.reporting.pop(document, None)
            self.outbox.forget(document)


class Heartbeat(Job):
    """Sends heartbeats, and takes the orders that answer them."""

    def __init__(self, outbox: Outbox, batch: BatchQueue, documents: list[DocumentQueue]) -> None:
        super().__init__(outbox, batch)
        self._pages = list(_pages(documents))

    def calls(self) -> Sequence[Call]:
        return [
            Call(
                "ReportService/Heartbeat",
                pb.HeartbeatRequest(
                    **self._ids,
                    documents=[
                        pb.HeartbeatDocument(
                            document_id=document.document_id,
                            attempt=document.attempt,
                        )
                        for document in page
                    ],
                ),
                pb.HeartbeatResponse.FromString,
            )
            for page in self._pages
        ]

    def answered(self, index: int, response: pb.HeartbeatResponse) -> None:
        for document, order in zip(self._pages[index], response.orders, strict=True):
            self._obey(document, order.order)
        self.batch.plan_heartbeat(self.outbox.now())

    def refused(self, index: int, error: StagecastError) -> None:
        if error.reason in ("BATCH_NOT_FOUND", "DATASET_NOT_FOUND"):
            return self._lose_batch(error)
        return self.batch.plan_heartbeat(self.outbox.now())

    def _obey(self, document: DocumentQueue, order: pb.WorkerOrder.ValueType) -> None:
        document.paused = order == pb.WORKER_ORDER_PAUSE
        if order == pb.WORKER_ORDER_STOP:
            self.outbox.stop(document, _REASONS["STOPPED"])
        elif document.start is not None and not document.paused:
            self.batch.starting[document] = None
        elif order == pb.WORKER_ORDER_DROP and not document.ended:
            self.outbox.stop(document, "another worker has it, or it has ended")


class Seal(Job):
    """Seals the batch, if this block has created it, or else no document of it is open."""

    def calls(self) -> Sequence[Call]:
        if self.batch.created:
            request: Message = pb.SealBatchRequest(**self._ids)
            return [Call("ReportService/SealBatch", request, pb.SealBatchResponse.FromString)]
        request = pb.AddDocumentsRequest(**self._ids)
        return [Call("ReportService/AddDocuments", request, pb.AddDocumentsResponse.FromString)]

    def answered(self, index: int, response: Any) -> None:  # noqa: ANN401 - of two RPCs
        counts = response.batch.counts
        abandoned = not (counts.pending or counts.running or counts.paused)
        if not response.batch.sealed and abandoned and not self.batch.created:
            # The run that created the batch has died before it could seal it.
            self.batch.created = True
            return
        self.batch.seal = False
        self.outbox.done(self.batch.seal_number)

    def refused(self, index: int, error: StagecastError) -> None:
        self.batch.seal = False
        self.outbox.undelivered(self.batch, str(error), reports=0)
        self.outbox.done(self.batch.seal_number)


_REASONS = {"STOPPED": "it was stopped", "SUCCEEDED": "it has succeeded already"}


def _pages(documents: list[DocumentQueue]) -> Iterator[list[DocumentQueue]]:
    for start in range(0, len(documents), _MAX_DOCUMENTS):
        yield documents[start : start + _MAX_DOCUMENTS]
