"""A batch as plain lines, one for each transition, where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator

import click

from stagecast.cli import wording
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as pb


def print_message(message: pb.WatchBatchResponse) -> None:
    """Print a message of a watch; one that only moves counters or says nothing prints nothing."""
    for line in format_message(message):
        click.echo(line)


def format_message(message: pb.WatchBatchResponse) -> Iterator[str]:
    """Yield the lines: documents of a snapshot, transitions, and the batch where its state ends."""
    if message.HasField("snapshot"):
        reason = wording.word(pb.SnapshotReason.DESCRIPTOR, message.snapshot.reason)
        yield f"snapshot ({reason}) at revision {message.revision}"
        for document in message.snapshot.documents:
            yield _line(document.revision, "", document)
    for transition in message.transitions:
        kind = wording.word(r.TransitionKind.DESCRIPTOR, transition.kind)
        yield _line(transition.revision, kind, transition.document)
    news = message.HasField("snapshot") or message.transitions
    if news and message.batch.HasField("end_time"):
        state = wording.batch_word(message.batch)
        yield f"batch {message.batch.batch_id} {state}: {wording.counts_line(message.batch.counts)}"


def _line(revision: int, kind: str, document: r.Document) -> str:
    """Return a line; the document of a transition of the batch itself is empty."""
    words = [f"{revision:>6}", f"{kind:<13}"] if kind else [f"{revision:>6}"]
    if document.document_id:
        words += [
            f"{wording.document_word(document):<9}",
            f"{wording.stage_word(document):<9}",
            wording.one_line(document.document_id),
        ]
    if document.HasField("error"):
        words.append(wording.error_line(document))
    return "  ".join(words).rstrip()
