"""Transitions as protobuf; the server itself encodes them in pieces."""

from __future__ import annotations

from stagecast.model import Transition
from stagecast.v1 import resources_pb2 as r
from stagecast.wire import to_document
from stagecast.wire.resources import to_timestamp


def to_transition(transition: Transition) -> r.Transition:
    """Return a transition."""
    document = transition.document
    return r.Transition(
        revision=transition.revision,
        kind=r.TransitionKind.ValueType(transition.kind),
        document=to_document(document) if document is not None else None,
        previous_state=r.DocumentState.ValueType(transition.previous_state or 0),
        previous_stage=r.Stage.ValueType(transition.previous_stage or 0),
        event_time=to_timestamp(transition.event_at),
        commit_time=to_timestamp(transition.committed_at),
    )
