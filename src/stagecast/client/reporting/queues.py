"""What waits to be sent: reports of a document, and documents of a batch.

Nothing here waits or calls; everything is used under the lock of the `Outbox`.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from stagecast.client.records import NewDocument
from stagecast.client.reporting.options import BatchOptions
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r

HEARTBEAT_S = 5.0  # the longest interval between heartbeats
_PAUSED_HEARTBEAT_S = 1.0  # so that a resumed document goes on soon


class Step(NamedTuple):
    """What goes on within a stage, such as pages of a PDF."""

    name: str
    completed: int
    total: int | None


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """One report. Counters alone merge with newer ones until they are sent.

    Attributes:
        time_ns: when it happened, in nanoseconds since the epoch.
        number: of its line in the spool, 0 without one.
    """

    time_ns: int
    stage: r.Stage.ValueType = r.STAGE_UNSPECIFIED
    completed: int | None = None
    total: int | None = None
    step: Step | None = None
    error: tuple[str, str] | None = None
    number: int = 0

    @property
    def only_counts(self) -> bool:
        """Whether it has neither a stage nor an error."""
        return not self.stage and self.error is None

    @property
    def ends(self) -> bool:
        """Whether it ends the document."""
        return self.stage == r.STAGE_COMPLETED or self.error is not None

    def merge(self, newer: Entry) -> None:
        """Take over newer counters and a newer step."""
        self.time_ns = newer.time_ns
        if newer.completed is not None:
            self.completed = newer.completed
        if newer.total is not None:
            self.total = newer.total
        self.step = newer.step or self.step

    def message(self, document_id: str, attempt: int) -> pb.DocumentReport:
        """Return the report as a message."""
        seconds, nanos = divmod(self.time_ns, 10**9)
        message = pb.DocumentReport(
            document_id=document_id,
            attempt=attempt,
            stage=self.stage,
            event_time=Timestamp(seconds=seconds, nanos=nanos),
        )
        if self.completed is not None or self.step is not None:
            message.progress.completed_segments = self.completed or 0
            if self.total is not None:
                message.progress.total_segments = self.total
        if self.step is not None:
            message.progress.step.name = self.step.name
            message.progress.step.completed = self.step.completed
            if self.step.total is not None:
                message.progress.step.total = self.step.total
        if self.error is not None:
            message.error.reason, message.error.message = self.error
        return message


class Takeover(enum.Enum):
    """Which documents that are not pending a start may take."""

    NEVER = "never"
    """None: workers that share a batch take only what is pending."""
    OPEN_OR_FAILED = "open or failed"
    """What another worker has, or what has failed; not what succeeded or was stopped."""
    ALWAYS = "always"
    """Any: an earlier run has left it behind, or the pipeline itself tries it again."""


@dataclass(slots=True, kw_only=True)
class Start:
    """A start of an attempt that the server has not answered yet.

    Attributes:
        offline: whether it was made, or first sent, while the server was away. Then it takes only
            what is pending, or what this process has failed itself: what happened in between is not
            undone.
        confirmed: whether the server has said that the document is one that may be taken over.
    """

    takeover: Takeover
    offline: bool = False
    confirmed: bool = False
    number: int = 0

    @property
    def only_if_pending(self) -> bool:
        """Whether to leave a document alone that is not pending."""
        always = self.takeover is Takeover.ALWAYS and not self.offline
        return not (self.confirmed or always)

    def go_offline(self) -> None:
        """Note that the server is away."""
        self.offline, self.confirmed = True, False

    def may_take(self, state: str, *, own: bool) -> bool:
        """Return whether it may take a document in a state.

        Args:
            state: of the document.
            own: whether its attempt is one that this process has failed.
        """
        if self.takeover is Takeover.NEVER:
            return False
        if state == "FAILED" and own:
            return True
        known = self.takeover is Takeover.OPEN_OR_FAILED and state in ("RUNNING", "FAILED")
        return known and not self.offline


class DocumentQueue:
    """The reports of one document that wait, and what is known of its attempt.

    Attributes:
        entries: the reports, in their order; the first `sending` are in the call under way.
        start: the start to be answered before any report is sent.
        attempt: of this worker, 0 before it is known.
        paused: whether work is to be held.
        stopped: why work is to end, empty if it is not.
        ended: whether its end was reported.
        open: whether heartbeats are sent for it.
        silent_after: when to send no more heartbeats, by the monotonic clock.
        registered: whether the server has been told of it.
        refused: why the server takes no reports on it, empty if it does.
        after: a queue of the same document that is to be sent first, and its turn.
        turn: how many times something came to wait in it.
        takeover: which documents its start may take.
    """

    def __init__(self, batch: BatchQueue, document_id: str, worker: str) -> None:
        self.batch = batch
        self.document_id = document_id
        self.worker = worker
        self.entries: deque[Entry] = deque()
        self.sending = 0
        self.start: Start | None = None
        self.attempt = 0
        self.paused = False
        self.stopped = ""
        self.ended = False
        self.open = False
        self.silent_after = float("inf")
        self.registered = False
        self.refused = ""
        self.after: tuple[DocumentQueue, int] | None = None
        self.turn = 0
        self.takeover = Takeover.OPEN_OR_FAILED

    @property
    def last(self) -> Entry | None:
        """The newest report that is not being sent."""
        return self.entries[-1] if len(self.entries) > self.sending else None

    @property
    def waiting_start(self) -> bool:
        """Whether a paused document waits to be started."""
        return self.start is not None and self.paused

    @property
    def working(self) -> bool:
        """Whether this process works on it, as far as is known."""
        return self.open and bool(self.attempt) and not (self.ended or self.stopped)

    @property
    def key(self) -> tuple[str, str, str]:
        """The document, whichever queue its reports come through."""
        return *self.batch.key, self.document_id

    @property
    def waits(self) -> bool:
        """Whether something of it waits to be sent."""
        return bool(self.entries) or self.start is not None

    @property
    def follows(self) -> bool:
        """Whether another queue of the document is to be sent first."""
        if self.after is not None:
            queue, turn = self.after
            if not queue.waits or queue.turn != turn:
                self.after = None
        return self.after is not None

    def drop_counters(self) -> int:
        """Drop counters that are not being sent, and return how many."""
        before = len(self.entries)
        sent = [self.entries.popleft() for _ in range(self.sending)]
        others = [entry for entry in self.entries if not entry.only_counts]
        self.entries = deque((*sent, *others))
        return before - len(self.entries)

    def begin_anew(self) -> None:
        """Forget what waits: after a fork it is the parent's to send."""
        self.entries.clear()
        self.sending = 0
        self.start = self.after = None
        self.open = self.registered = False


class Mode(enum.Enum):
    """How a batch is opened."""

    CREATE = "create"
    """It is created, unless it exists."""
    JOIN = "join"
    """It is created only if documents are registered and it does not exist."""
    ATTACH = "attach"
    """It is never created: whoever made the token does that."""


class BatchQueue:
    """The documents of one batch that wait, and what is known of the batch.

    Attributes:
        revision: the newest that the server has answered.
        strict: whether problems are raised by the faces, rather than logged.
        opened: whether the server has answered that the batch exists.
        created: whether this block has created it.
        submitted: whether this block was told the documents of the batch.
        survey: whether the documents of an earlier run are to be read, and from which page on.
        listed: the ids of all documents that the survey has read.
        succeeded, left_behind: those that have succeeded; that have ended otherwise or are open.
        failed: the attempts that this process has failed, by document.
        in_round: whether a round has begun since it was put into the outbox.
        documents: those of which something waits or may come.
        active: those that need heartbeats or orders.
        changed, starting, reporting: documents that have something to send, in this round the last
            two.
        seal: whether to seal it once all is sent.
        left: whether the block of the batch has ended.
        lost: why nothing more can be delivered, empty while it can.
        faults: how many tries in a row have failed by a fault of the server, by the kind of job.
    """

    def __init__(self, options: BatchOptions, mode: Mode, *, strict: bool = False) -> None:
        self.options = options
        self.mode = mode
        self.strict = strict
        self.number = 0
        self.revision = 0
        self.opened = False
        self.created = False
        self.submitted = False
        self.survey: str | None = None
        self.listed: dict[str, None] = {}
        self.succeeded: set[str] = set()
        self.left_behind: set[str] = set()
        self.failed: dict[str, int] = {}
        self.in_round = False
        self.one_by_one = False  # to find the one that is refused
        self.unregistered: deque[tuple[NewDocument, int]] = deque()
        self.documents: dict[DocumentQueue, None] = {}
        self.active: dict[DocumentQueue, None] = {}
        self.changed: dict[DocumentQueue, None] = {}
        self.starting: dict[DocumentQueue, None] = {}
        self.reporting: dict[DocumentQueue, None] = {}
        self.seal = False
        self.seal_number = 0
        self.left = False
        self.lost = ""
        self.faults: dict[str, int] = {}
        self.missing_since: float | None = None
        self.retry_at = 0.0
        self.heartbeat_at = 0.0
        self.heartbeat_s = HEARTBEAT_S
        self.waiting = 0
        self.delivered = 0
        self.refused = 0
        self.dropped = 0
        self.warned = False
        self.first_problem = ""

    @property
    def key(self) -> tuple[str, str]:
        """The batch, whichever queue it has."""
        return self.options.dataset_id, self.options.batch_id

    @property
    def sends(self) -> bool:
        """Whether reports of it are being sent, in this round or the next ones."""
        behind = any(document.follows for document in self.changed)
        return bool(self.starting or self.reporting) or behind

    @property
    def ready(self) -> bool:
        """Whether it is known which documents have succeeded already."""
        return bool(self.lost) or (self.opened and self.survey is None)

    @property
    def sent(self) -> bool:
        """Whether nothing waits but the seal."""
        pending = self.unregistered or self.changed or self.starting or self.reporting
        if pending or self.waiting or not self.ready:
            return False
        return not any(document.waiting_start for document in self.active)

    @property
    def idle(self) -> bool:
        """Whether nothing waits at all."""
        return bool(self.lost) or (self.sent and not self.seal)

    @property
    def empty(self) -> bool:
        """Whether nothing of it waits, although it may not exist yet."""
        joined = self.mode is not Mode.CREATE and not self.opened
        return self.idle or (joined and not (self.unregistered or self.documents))

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do, now or later."""
        return self.idle and not self.documents

    def alive(self, now: float) -> list[DocumentQueue]:
        """Return the documents that need a heartbeat, or an order."""
        return [
            document
            for document in self.active
            if document.waiting_start
            or (document.working and (document.paused or now < document.silent_after))
        ]

    def mend(self) -> bool:
        """Take up what an exception of a signal handler has left, and return whether it has.

        That can be told once nothing else waits.
        """
        if self.changed or self.starting or self.reporting or not self.ready:
            return False
        left = [document for document in self.documents if document.waits]
        waiting = sum(len(document.entries) for document in left)
        self.changed = {document: None for document in left if not document.waiting_start}
        mended = bool(self.changed) or waiting != self.waiting
        self.waiting = waiting
        return mended

    def begin_anew(self) -> None:
        """Forget what waits, and that it is for this process to create and seal the batch."""
        succeeded, left_behind = self.succeeded, self.left_behind
        self.__init__(self.options, Mode.ATTACH, strict=self.strict)  # type: ignore[misc]  # anew
        self.succeeded, self.left_behind = succeeded, left_behind

    def plan_heartbeat(self, now: float) -> None:
        """Set the time of the next heartbeat."""
        paused = any(document.paused for document in self.active)
        interval_s = min(self.heartbeat_s, _PAUSED_HEARTBEAT_S) if paused else self.heartbeat_s
        self.heartbeat_at = now + interval_s

    def numbers(self) -> list[int]:
        """Return the numbers of all that waits, in the spool."""
        numbers = [self.number, self.seal_number, *(number for _, number in self.unregistered)]
        for document in self.documents:
            numbers += [entry.number for entry in document.entries]
            numbers += [document.start.number] if document.start else []
        return numbers

    def lose(self, why: str) -> int:
        """Give up everything that waits, and return how many reports were lost."""
        self.lost = self.lost or why
        lost = sum(len(document.entries) for document in self.documents)
        for document in self.documents:
            document.refused = document.refused or why
            document.entries.clear()
            document.sending = 0
            document.start = None
        self.unregistered.clear()
        self.changed.clear()
        self.starting.clear()
        self.reporting.clear()
        self.documents.clear()
        self.active.clear()
        self.survey = None
        self.waiting = 0
        self.seal = False
        return lost
