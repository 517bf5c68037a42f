"""Checks what watchers received: ordered, unique, gapless, atomic, fitting, resumable.

The idea is that of etcd's robustness tests: clients record what they see, whatever is done to them
and to the server, and one validator holds every record against what a watch promises.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s

_OPEN = {r.DOCUMENT_STATE_PENDING, r.DOCUMENT_STATE_RUNNING, r.DOCUMENT_STATE_PAUSED}
_ENDED = {r.DOCUMENT_STATE_SUCCEEDED, r.DOCUMENT_STATE_FAILED, r.DOCUMENT_STATE_STOPPED}
_NONE = {r.DOCUMENT_STATE_UNSPECIFIED}
_RUNNING = {r.DOCUMENT_STATE_RUNNING}

# For each kind, the states that it leads from and to; stated here again, apart from the model.
_FITTING = {
    r.TRANSITION_KIND_REGISTERED: (_NONE, {r.DOCUMENT_STATE_PENDING}),
    r.TRANSITION_KIND_STARTED: (_OPEN | _ENDED, _RUNNING),
    r.TRANSITION_KIND_STAGE_ENTERED: (_OPEN, {r.DOCUMENT_STATE_RUNNING, r.DOCUMENT_STATE_PAUSED}),
    r.TRANSITION_KIND_PAUSED: (
        {r.DOCUMENT_STATE_PENDING, r.DOCUMENT_STATE_RUNNING},
        {r.DOCUMENT_STATE_PAUSED},
    ),
    r.TRANSITION_KIND_RESUMED: (
        {r.DOCUMENT_STATE_PAUSED},
        {r.DOCUMENT_STATE_PENDING, r.DOCUMENT_STATE_RUNNING},
    ),
    r.TRANSITION_KIND_STALLED: (_RUNNING, _RUNNING),
    r.TRANSITION_KIND_RECOVERED: (_RUNNING, _RUNNING),
    r.TRANSITION_KIND_SUCCEEDED: (_OPEN, {r.DOCUMENT_STATE_SUCCEEDED}),
    r.TRANSITION_KIND_FAILED: (_OPEN, {r.DOCUMENT_STATE_FAILED}),
    r.TRANSITION_KIND_STOPPED: (_OPEN, {r.DOCUMENT_STATE_STOPPED}),
    r.TRANSITION_KIND_RETRIED: (_ENDED, {r.DOCUMENT_STATE_PENDING}),
}
_NEW_ATTEMPT = {r.TRANSITION_KIND_STARTED, r.TRANSITION_KIND_RETRIED}

_COUNTED = {
    r.DOCUMENT_STATE_PENDING: "pending",
    r.DOCUMENT_STATE_RUNNING: "running",
    r.DOCUMENT_STATE_PAUSED: "paused",
    r.DOCUMENT_STATE_SUCCEEDED: "succeeded",
    r.DOCUMENT_STATE_FAILED: "failed",
    r.DOCUMENT_STATE_STOPPED: "stopped",
}


@dataclass
class WatchRecord:
    """What one watcher knows, message by message, across all its streams.

    Give it each message with `receive`, and say `hang_up` when a stream ends before its time.
    Every check is an assertion.

    Attributes:
        transitions: all that are settled by a token, by revision.
        documents: as the settled messages leave them.
        snapshots: how many snapshots were completed.
        began: the revision of the last snapshot; transitions are known after it.
        hangups: how many streams ended before their time.
    """

    transitions: dict[int, r.Transition] = field(default_factory=dict)
    documents: dict[str, r.Document] = field(default_factory=dict)
    revision: int = 0
    resume_token: str = ""
    batch: r.Batch | None = None
    snapshots: int = 0
    began: int = 0
    hangups: int = 0
    messages: int = 0
    _parts: list[s.WatchBatchResponse] = field(default_factory=list)
    _settled_at: set[int] = field(default_factory=set)

    def receive(self, message: s.WatchBatchResponse) -> None:
        """Take a message; what it says counts once a token settles it."""
        self.messages += 1
        self._parts.append(message)
        if not message.resume_token:
            assert not message.HasField("batch"), "a part bears no batch"
            if not (message.HasField("snapshot") or message.transitions or message.progress):
                self._parts.pop()
                assert not message.revision, "a heartbeat before a snapshot is whole tells nothing"
            return
        parts, self._parts = self._parts, []
        if any(part.HasField("snapshot") for part in parts):
            self._take_snapshot(parts)
        else:
            self._take_transitions([t for part in parts for t in part.transitions])
        self._take_progress(message.progress)
        assert message.revision == self.revision, "a heartbeat is never ahead of a transition"
        assert message.batch.revision == self.revision, "the batch is at exactly the revision"
        self.resume_token = message.resume_token
        self.batch = message.batch
        self._check_counts(message.batch)

    def hang_up(self) -> None:
        """The stream broke; parts that no token settled come again."""
        self.hangups += 1
        self._parts = []

    def check_atomic(self, calls: Iterable[range]) -> None:
        """Check that this watcher's tokens never lie inside what one call changed."""
        for call in calls:
            inside = set(call[:-1]) & self._settled_at
            assert not inside, f"a token lies inside the call {call}: {inside}"

    def _take_snapshot(self, parts: list[s.WatchBatchResponse]) -> None:
        assert all(part.HasField("snapshot") for part in parts), "a snapshot stands alone"
        assert not any(part.transitions or part.progress for part in parts)
        assert [p.snapshot.complete for p in parts] == [False] * (len(parts) - 1) + [True]
        assert len({part.revision for part in parts}) == 1, "a snapshot is as of one revision"
        actual = [document for part in parts for document in part.snapshot.documents]
        self.documents = {document.document_id: document for document in actual}
        assert len(self.documents) == len(actual), "a snapshot has each document once"
        assert all(document.revision <= parts[-1].revision for document in actual)
        self.transitions.clear()
        self.revision = self.began = parts[-1].revision
        self.snapshots += 1
        self._settled_at = {self.revision}

    def _take_transitions(self, transitions: list[r.Transition]) -> None:
        assert self.snapshots, "a watch starts whole"
        for transition in transitions:
            assert transition.revision == self.revision + 1, (
                f"after {self.revision} came {transition.revision}"
            )
            self._check_times(transition)
            self._apply(transition)
            self.revision = transition.revision
            self.transitions[transition.revision] = transition
        self._settled_at.add(self.revision)

    def _apply(self, transition: r.Transition) -> None:
        if transition.kind == r.TRANSITION_KIND_SEALED:
            assert not transition.HasField("document")
            return
        after = transition.document
        assert after.revision == transition.revision
        before = self.documents.get(after.document_id, r.Document())
        assert transition.previous_state == before.state, "it fits the state before it"
        assert transition.previous_stage == before.stage, "it fits the stage before it"
        came_from, leads_to = _FITTING[transition.kind]
        assert before.state in came_from
        assert after.state in leads_to
        _check_attempts(before, transition)
        _check_document(after)
        # A copy: newer counters move it on, and the transition stays as it was received.
        self.documents[after.document_id] = r.Document.FromString(after.SerializeToString())

    def _check_times(self, transition: r.Transition) -> None:
        earlier = self.transitions.get(self.revision)
        if earlier is not None:
            then, now = earlier.commit_time, transition.commit_time
            assert then.ToMicroseconds() <= now.ToMicroseconds(), "commit times never fall"

    def _take_progress(self, progress: Iterable[s.DocumentProgress]) -> None:
        for news in progress:
            known = self.documents[news.document_id]
            assert news.attempt == known.attempt, "counters belong to the attempt that was sent"
            _check_counters(known.progress, news.progress)
            known.progress.CopyFrom(news.progress)

    def _check_counts(self, batch: r.Batch) -> None:
        actual = dict.fromkeys(_COUNTED.values(), 0)
        for document in self.documents.values():
            actual[_COUNTED[document.state]] += 1
        reported = {name: getattr(batch.counts, name) for name in actual}
        assert reported == actual, "the batch's counts are those of its documents"
        assert batch.counts.total == len(self.documents)


def _check_attempts(before: r.Document, transition: r.Transition) -> None:
    after = transition.document
    if transition.kind == r.TRANSITION_KIND_REGISTERED:
        assert after.attempt == 1
    elif transition.kind in _NEW_ATTEMPT and after.attempt != before.attempt:
        assert after.attempt == before.attempt + 1
        assert after.stage == r.STAGE_WAITING
    else:
        assert after.attempt == before.attempt
        assert after.stage >= before.stage, "a stage is never left backwards"
        _check_counters(before.progress, after.progress)


def _check_counters(before: r.Progress, after: r.Progress) -> None:
    assert after.completed_segments >= before.completed_segments, "counters never fall"
    assert after.total_segments >= before.total_segments, "counters never fall"


def _check_document(document: r.Document) -> None:
    """Check what holds for every document at every moment."""
    state, stage = document.state, document.stage
    succeeded = state == r.DOCUMENT_STATE_SUCCEEDED
    assert (stage == r.STAGE_COMPLETED) == succeeded
    assert document.HasField("error") == (state == r.DOCUMENT_STATE_FAILED)
    assert document.HasField("complete_time") == succeeded
    assert document.HasField("pause_time") == (state == r.DOCUMENT_STATE_PAUSED)
    stopped = state in (r.DOCUMENT_STATE_FAILED, r.DOCUMENT_STATE_STOPPED)
    assert document.HasField("stop_time") == stopped
    assert document.HasField("parsing_complete_time") == (stage > r.STAGE_PARSING)
    assert document.HasField("cleaning_complete_time") == (stage > r.STAGE_CLEANING)
    assert document.HasField("splitting_complete_time") == (stage > r.STAGE_SPLITTING)
    if stage > r.STAGE_WAITING or state == r.DOCUMENT_STATE_RUNNING:
        assert document.HasField("processing_start_time")
