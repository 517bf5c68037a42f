"""A watched batch as plain lines, one per transition, for pipes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stagecast.cli.render import formatting
from stagecast.cli.render.output import print_rows
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb


def print_message(message: pb.WatchBatchResponse) -> None:
    """Print a message of a watch; mere progress and heartbeats print nothing."""
    print_rows(message_rows(message))


def message_rows(message: pb.WatchBatchResponse) -> Iterator[Sequence[str]]:
    """Yield rows: documents of a snapshot, transitions, and the batch once it has ended."""
    if message.HasField("snapshot"):
        reason = formatting.word(pb.SnapshotReason.DESCRIPTOR, message.snapshot.reason)
        yield (f"snapshot ({reason}) at revision {message.revision}",)
        for document in message.snapshot.documents:
            yield _row(document.revision, "", document)
    for transition in message.transitions:
        kind = formatting.word(r.TransitionKind.DESCRIPTOR, transition.kind)
        yield _row(transition.revision, kind, transition.document)
    changed = message.HasField("snapshot") or message.transitions
    if changed and message.batch.HasField("end_time"):
        state = formatting.batch_word(message.batch)
        counts = formatting.counts_line(message.batch.counts)
        yield (f"batch {message.batch.batch_id} {state}: {counts}",)


def _row(revision: int, kind: str, document: r.Document) -> Sequence[str]:
    """Return the fields of a row; a transition of the batch itself has no document."""
    if not document.document_id:
        return (str(revision), kind, "", "", "", "", "")
    return (
        str(revision),
        kind,
        formatting.document_word(document),
        formatting.stage_word(document),
        document.document_id,
        formatting.error_field(document),
        formatting.step(document.progress),
    )
