"""Checks the messages of watchers: ordered, unique, gapless, atomic, valid, resumable.

The idea is that of etcd's robustness tests: clients record what they receive, whatever faults are
injected, and one validator checks every record against the guarantees of a watch.
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

# For each kind, the states before and after it; stated independently of the model.
_VALID = {
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
    """The record of one watcher across all its streams.

    Pass each message to `receive`, and call `hang_up` when a stream ends early. Every check is an
    assertion.

    Attributes:
        transitions: those confirmed by a token, by revision.
        documents: their state after the confirmed messages.
        snapshots: the number of complete snapshots.
        began: the revision of the last snapshot; transitions are known after it.
        hangups: the number of streams that ended early.
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
    _confirmed_at: set[int] = field(default_factory=set)

    def receive(self, message: s.WatchBatchResponse) -> None:
        """Record a message; it counts once a token confirms it."""
        self.messages += 1
        self._parts.append(message)
        if not message.resume_token:
            assert not message.HasField("batch"), "a part has no batch"
            if not (message.HasField("snapshot") or message.transitions or message.progress):
                self._parts.pop()
                assert not message.revision, "a heartbeat during a snapshot has no revision"
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
        """Record that the stream broke; parts without a token will be sent again."""
        self.hangups += 1
        self._parts = []

    def check_atomic(self, calls: Iterable[range]) -> None:
        """Check that no token of this watcher is between the revisions of one call."""
        for call in calls:
            inside = set(call[:-1]) & self._confirmed_at
            assert not inside, f"a token is inside the call {call}: {inside}"

    def _take_snapshot(self, parts: list[s.WatchBatchResponse]) -> None:
        assert all(part.HasField("snapshot") for part in parts), "a snapshot has no transitions"
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
        self._confirmed_at = {self.revision}

    def _take_transitions(self, transitions: list[r.Transition]) -> None:
        assert self.snapshots, "a watch starts with a snapshot"
        for transition in transitions:
            assert transition.revision == self.revision + 1, (
                f"after {self.revision} came {transition.revision}"
            )
            self._check_times(transition)
            self._apply(transition)
            self.revision = transition.revision
            self.transitions[transition.revision] = transition
        self._confirmed_at.add(self.revision)

    def _apply(self, transition: r.Transition) -> None:
        if transition.kind == r.TRANSITION_KIND_SEALED:
            assert not transition.HasField("document")
            return
        after = transition.document
        assert after.revision == transition.revision
        before = self.documents.get(after.document_id, r.Document())
        assert transition.previous_state == before.state, "it matches the previous state"
        assert transition.previous_stage == before.stage, "it matches the previous stage"
        states_before, states_after = _VALID[transition.kind]
        assert before.state in states_before
        assert after.state in states_after
        _check_attempts(before, transition)
        _check_document(after)
        # A copy: later counters change it, but not the received transition.
        self.documents[after.document_id] = r.Document.FromString(after.SerializeToString())

    def _check_times(self, transition: r.Transition) -> None:
        earlier = self.transitions.get(self.revision)
        if earlier is not None:
            then, now = earlier.commit_time, transition.commit_time
            assert then.ToMicroseconds() <= now.ToMicroseconds(), "commit times never fall"

    def _take_progress(self, progress: Iterable[s.DocumentProgress]) -> None:
        for change in progress:
            known = self.documents[change.document_id]
            assert change.attempt == known.attempt, "counters are of the current attempt"
            _check_counters(known.progress, change.progress)
            _check_step(change.progress)
            known.progress.CopyFrom(change.progress)

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
        assert after.progress == r.Progress(), "a new attempt has no counters and no step"
    else:
        assert after.attempt == before.attempt
        assert after.stage >= before.stage, "stages never go backwards"
        _check_counters(before.progress, after.progress)


def _check_counters(before: r.Progress, after: r.Progress) -> None:
    assert after.completed_segments >= before.completed_segments, "counters never fall"
    assert after.total_segments >= before.total_segments, "counters never fall"


def _check_step(progress: r.Progress) -> None:
    if progress.HasField("step"):
        step = progress.step
        assert step.name
        assert 0 <= step.completed <= (step.total if step.HasField("total") else step.completed)


def _check_document(document: r.Document) -> None:
    """Check the invariants of a document."""
    _check_step(document.progress)
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
